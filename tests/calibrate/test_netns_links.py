"""Links of known rate and delay, measured by a real Ray job between network namespaces; truth, estimate, error.

`CLUSTERSIM_NETNS=1 pytest -s tests/calibrate/test_netns_links.py` prints every figure. Skipped where namespaces, Ray
or torch are missing. The bars were set before the runs: 5 % on bandwidth, 10 % on latency and on predicted times.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from netns import GOODPUT, Net, RayNodes, relay, why_not
from ruamel.yaml import YAML

from clustersim.cost.collectives import Fabric
from clustersim.cost.profile import generic
from clustersim.models.ops import Op
from clustersim.scenario.schema import Cluster

WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
CALIBRATE = (
    sys.executable,
    "-m",
    "calibrate",
    "cluster",
    "--plan",
    "quick",
    "--no-sweep",
    "--allow-contended",
)


@pytest.fixture(scope="module")
def ray_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    net = Net(2, 200)
    try:
        # A short folder: Ray's sockets lie below it, and their paths are limited to 107 bytes.
        yield RayNodes(net, Path(tempfile.gettempdir(), net.names[0]))
    finally:
        net.close()
        shutil.rmtree(Path(tempfile.gettempdir(), net.names[0]), ignore_errors=True)


def measured(nodes: RayNodes, out: Path, *arguments: str) -> dict[str, Any]:
    done = nodes.job(*CALIBRATE, "--out", str(out), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(YAML(typ="safe").load(out / "cluster-quick" / "cluster.yaml"))


def told(what: str, truth: float, estimate: float, unit: str) -> float:
    error = estimate / truth - 1
    print(f"{what:52} truth {truth:9.3f} {unit:5} estimate {estimate:9.3f} error {error:+.1%}")
    return abs(error)


@pytest.mark.parametrize("mbit", [80, 200, 500])
def test_the_rate_of_a_shaped_link_is_recovered(ray_nodes: RayNodes, tmp_path: Path, mbit: int) -> None:
    ray_nodes.net.shape(mbit)
    found = measured(ray_nodes, tmp_path, "--op", "p2p", "--op", "all_reduce")
    truth = mbit / 8 * GOODPUT
    (link,), (ring,) = found["links"], found["collectives"]["fits"]
    print(f"\nburst {link['burst_bytes']}, latency {link['latency_s']}, quality {link['quality']}")
    errors = [
        told(f"{mbit} Mb/s {name}", truth, fit["bandwidth_bytes_per_s"]["v"] / 1e6, "MB/s")
        for name, fit in (("p2p", link), ("all_reduce", ring))
    ]
    assert max(errors) <= 0.05


def test_the_delay_of_a_long_link_is_recovered(ray_nodes: RayNodes, tmp_path: Path) -> None:
    with relay(ray_nodes.net, 10e-3, 50e6) as interface:
        found = measured(ray_nodes, tmp_path, "--op", "p2p", "--interface", interface)
    (link,) = found["links"]
    error = told("relay of 10 ms", 10.0, link["latency_s"]["v"] * 1e3, "ms")
    told(
        "relay of 50 MB/s x 8948/9000 (no bar)",
        50 * 8948 / 9000,
        link["bandwidth_bytes_per_s"]["v"] / 1e6,
        "MB/s",
    )
    assert error <= 0.10


def test_a_scenario_predicts_a_collective_and_a_pipeline(ray_nodes: RayNodes, tmp_path: Path) -> None:
    """What the run wrote goes into a scenario's node as it is; clustersim's own cost then tells the times."""
    ray_nodes.net.shape(200)
    measured(ray_nodes, tmp_path, "--op", "p2p")
    fabric = fabric_of(tmp_path / "cluster-quick" / "node.yaml")
    size, shapes = 64_000_000, ["262144x16", "1048576x8", "4194304x4"]
    done = ray_nodes.job(sys.executable, str(Path(__file__).with_name("netns_job.py")), str(size), *shapes)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"all_reduce"')]
    assert lines, done.stdout + done.stderr
    real = json.loads(lines[0])
    print()
    errors = [
        told(
            "64 MB all_reduce",
            statistics.median(real["all_reduce"]),
            seconds(fabric, "all_reduce", size),
            "s",
        )
    ]
    for each in real["pipelines"]:
        runs, num = each["runs"], each["micro_batches"]
        send_s = seconds(fabric, "send", each["bytes"])
        real_ms = [1e3 * run["seconds"] for run in runs]
        ahead_ms = [1e3 * pipeline_seconds(num, send_s, *run["compute_s"]) for run in runs]
        print("    runs ms", [f"{r:.1f} (predicted {p:.1f})" for r, p in zip(real_ms, ahead_ms, strict=True)])
        print("    stages ms", [[round(1e3 * c, 2) for c in run["compute_s"]] for run in runs])
        bound = "compute" if send_s < max(runs[0]["compute_s"]) else "link"
        name = f"pipeline of {num} x {each['bytes']} B, {bound}-bound"
        errors.append(told(name, statistics.median(real_ms), statistics.median(ahead_ms), "ms"))
    assert max(errors) <= 0.10


def fabric_of(file: Path) -> Fabric:
    """Return the fabric of two nodes of a scenario whose node is varied by what was measured."""
    cluster = {"name": "two", "node": {"base": "hgx-h100", **YAML(typ="safe").load(file)}, "count": 2}
    of_two = Cluster.model_validate(cluster)
    path = of_two.network.path(of_two.node, of_two.count)
    assert path.evidence == "measured"
    return Fabric(None, 1, path, generic())


def seconds(fabric: Fabric, family: Any, size: int) -> float:
    return float(
        fabric.time(Op("test", family, "u8", 1, message_bytes=np.array(float(size)), ranks=2)).seconds
    )


def pipeline_seconds(micro_batches: int, send_s: float, first_s: float, second_s: float) -> float:
    """Forward of two stages: sends overlap with compute, and the slowest of the three sets the pace."""
    return first_s + send_s + second_s + (micro_batches - 1) * max(first_s, send_s, second_s)
