"""Small runs that the report's tests share: one keeps up, one does not, one rejects, one has many parts."""

from __future__ import annotations

from typing import Any

import pytest

from clustersim.results.result import Result
from clustersim.scenario.load import parse
from clustersim.simulation import simulate
from clustersim.yaml_file import Document

HOSTILE = '</script><script>alert("x")</script> & {{ 7 * 7 }} [red]é'


def run(**changes: Any) -> Result:
    """Return a run of a minute of Llama on an H100, with top-level settings changed."""
    data = {
        "name": "small",
        "horizon": "1 min",
        "fleet": [{"site": "us-iowa", "clusters": [{"name": "c", "node": "hgx-h100", "count": 1}]}],
        "deployments": [{"name": "d", "model": "llama-3.1-8b", "on": "c", "replicas": 2}],
        **changes,
    }
    if "workloads" not in data:
        data.setdefault("workload", workload("20 req/s"))
    return simulate(parse(Document(data)))


def workload(rate: str, **changes: Any) -> dict[str, Any]:
    """Return a workload of equal requests at a rate."""
    lengths = {"kind": "fixed", "input": 512, "thinking": 64, "answer": 128}
    return {
        "arrivals": {"kind": "poisson", "rate": rate},
        "lengths": lengths,
        "slo": {"ttft": "1 s", "tpot": "50 ms"},
        **changes,
    }


@pytest.fixture(scope="session")
def stable() -> Result:
    return run()


@pytest.fixture(scope="session")
def overloaded() -> Result:
    return run(workload=workload("400 req/s"))


@pytest.fixture(scope="session")
def rejecting() -> Result:
    deployment = {"name": "d", "model": "llama-3.1-8b", "on": "c", "max_model_len": 100}
    return run(deployments=[deployment])


@pytest.fixture(scope="session")
def rich_one() -> Result:
    """Two deployments, tenants with promises of their own, and names that try to break out."""
    tenants = [
        {"name": HOSTILE, "weight": 2, "slo": {"ttft": "2 s"}},
        {"name": "batch", "weight": 1, "slo": {"e2el": "1 min"}},
        {"name": "free", "weight": 1},
    ]
    deployments = [
        {"name": "one", "model": "llama-3.1-8b", "on": "c", "replicas": 2},
        {"name": "two", "model": "qwen3-30b-a3b", "on": "c", "parallelism": {"tp": 2, "ep": 2}},
    ]
    first = workload("10 req/s", name="a", to="one", tenants=tenants, slo=None)
    second = workload("5 req/s", name="b", to="two")
    return run(name=HOSTILE, description=HOSTILE, workloads=[first, second], deployments=deployments)
