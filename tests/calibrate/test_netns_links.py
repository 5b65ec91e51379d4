"""Links of known rate and delay, measured by a real Ray job between network namespaces; truth, estimate, error.

`pytest -m slow -s tests/calibrate/test_netns_links.py` prints every figure. Skipped where namespaces, Ray or torch
are missing. The bars were set before the runs: 5 % on bandwidth, 10 % on latency and on predicted times.
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

import pytest
from netns import GOODPUT, Net, RayNodes, relay, why_not
from ruamel.yaml import YAML

from calibrate.linkfit import LinkFit, Parameter

WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
CALIBRATE = (sys.executable, "-m", "calibrate.cluster", "--plan", "quick", "--no-sweep", "--allow-contended")


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


def test_a_fitted_link_predicts_a_collective_and_a_pipeline(ray_nodes: RayNodes, tmp_path: Path) -> None:
    ray_nodes.net.shape(200)
    (fit,) = measured(ray_nodes, tmp_path, "--op", "p2p")["links"]
    link = LinkFit(
        "tcp", "a", "b", **{key: Parameter(**_renamed(fit[key])) for key in ("latency_s", "bandwidth_bytes_per_s", "burst_bytes")}
    )  # fmt: skip
    size, shapes = 64_000_000, ["65536x32", "262144x32", "1048576x16"]
    done = ray_nodes.job(sys.executable, str(Path(__file__).with_name("netns_job.py")), str(size), *shapes)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"all_reduce"')]
    assert lines, done.stdout + done.stderr
    real = json.loads(lines[0])
    predicted = float(link.collective_seconds("all_reduce", size, 2))
    print()
    errors = [told("64 MB all_reduce", statistics.median(real["all_reduce"]), predicted, "s")]
    for each in real["pipelines"]:
        runs, shape = each["runs"], (each["bytes"], each["micro_batches"])
        real_ms = [1e3 * run["seconds"] for run in runs]
        ahead_ms = [1e3 * pipeline_seconds(link, *shape, *run["compute_s"]) for run in runs]
        print("    runs ms", [f"{r:.1f} (predicted {p:.1f})" for r, p in zip(real_ms, ahead_ms, strict=True)])
        print("    stages ms", [[round(1e3 * c, 2) for c in run["compute_s"]] for run in runs])
        name = f"pipeline of {each['micro_batches']} x {each['bytes']} B"
        errors.append(told(name, statistics.median(real_ms), statistics.median(ahead_ms), "ms"))
    assert max(errors) <= 0.10


def _renamed(interval: dict[str, float]) -> dict[str, float]:
    return {"value": interval["v"], "low": interval["lo"], "high": interval["hi"]}


def pipeline_seconds(link: LinkFit, size: int, micro_batches: int, first_s: float, second_s: float) -> float:
    """Forward of two stages: sends overlap with compute, the link carries one at a time through its token bucket."""
    assert link.latency_s is not None
    assert link.bandwidth_bytes_per_s is not None
    rate, burst = link.bandwidth_bytes_per_s.value, link.burst_bytes.value
    tokens, free, done = burst, 0.0, 0.0
    for k in range(1, micro_batches + 1):
        begins = max(k * first_s, free)
        tokens = min(burst, tokens + (begins - free) * rate)
        free = begins + max(0.0, size - tokens) / rate
        tokens = max(0.0, tokens - size)
        done = max(done, free + link.latency_s.value) + second_s
    return done
