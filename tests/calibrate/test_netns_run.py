"""The whole of `ray job submit -- python -m calibrate run`: four nodes on a bridge, every operation, all pairs at once."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import GOODPUT, Net, RayNodes, why_not
from ruamel.yaml import YAML

WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
MBIT = 200


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[RayNodes]:
    net = Net(4, MBIT)
    try:
        yield RayNodes(net, Path(tempfile.gettempdir(), net.names[0]))
    finally:
        net.close()
        shutil.rmtree(Path(tempfile.gettempdir(), net.names[0]), ignore_errors=True)


@pytest.fixture(scope="module")
def found(ray_nodes: RayNodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    command = (
        sys.executable,
        "-m",
        "calibrate",
        "run",
        "--plan",
        "quick",
        "--allow-contended",
        "--out",
        str(out),
    )
    done = ray_nodes.job(*command, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    print("\n".join(line for line in done.stdout.splitlines() if " MB/s (" in line or "not measured" in line))
    return dict(YAML(typ="safe").load(out / "cluster-quick" / "cluster.yaml"))


def test_every_link_is_recovered(found: dict[str, Any]) -> None:
    truth = MBIT / 8 * 1e6 * GOODPUT
    links = {
        (each["a"], each["b"]): each["bandwidth_bytes_per_s"]["v"] / truth - 1 for each in found["links"]
    }
    print("\nerror of each link", {"-".join(pair): f"{error:+.1%}" for pair, error in links.items()})
    assert len(links) == 6
    assert max(map(abs, links.values())) <= 0.05


def test_pairs_at_once_are_no_slower_on_a_switch_that_carries_them(found: dict[str, Any]) -> None:
    """Every port has its own rate, so that disjoint pairs do not contend."""
    factors = [each["contention_factor"] for each in found["links"]]
    print("\ncontention", [f"{factor:.3f}" for factor in factors])
    assert all(factor == pytest.approx(1.0, abs=0.05) for factor in factors)


def test_every_collective_is_measured_among_two_and_four(found: dict[str, Any]) -> None:
    rows, truth = found["collectives"]["rows"], MBIT / 8 * 1e6 * GOODPUT
    seen = {(row["op"], row["ranks"]) for row in rows}
    ops = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier")
    assert seen == {(op, ranks) for op in ops for ranks in (2, 4)}
    print()
    for fit in found["collectives"]["fits"]:
        share = fit["bandwidth_bytes_per_s"]["v"] / truth
        print(f"{fit['op']:15} of {fit['ranks']}: bus bandwidth {share:.1%} of the link's")
        assert 0.2 < share < 1.10, "no collective beats its link; gloo's own waits make it slower"


def test_all_devices_are_swept_at_once(found: dict[str, Any]) -> None:
    assert found["devices"]
    for each in found["devices"]:
        assert set(each["by_rank_s"]) == {"a", "b", "c", "d"}


def test_nothing_is_missing(found: dict[str, Any]) -> None:
    unexplained = {
        name: why for name, why in found["missing"].items() if "over the 1.5 s of this plan" not in why
    }
    assert not unexplained
    assert not found["quarantined"]
