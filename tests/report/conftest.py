"""Small runs that the report's tests share: one keeps up, one does not, one rejects, one has many parts, some of tasks."""

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


TASK_DEPLOYMENTS = [
    {"name": "policy", "model": "llama-3.1-8b", "on": "c", "replicas": 2},
    {"name": "judge", "model": "qwen2.5-7b", "on": "c"},
]


def of_tasks(rate: str, tasks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a workload of tasks at a rate."""
    promised = {"ttft": "1 s", "ttfo": "3 s", "e2el": "10 s"}
    return workload(rate, **{"name": "puzzles", "to": "policy", "tasks": tasks, "slo": promised, **changes})


@pytest.fixture(scope="session")
def tasked() -> Result:
    """Best of four with a judge that queues, beside a workload of plain requests."""
    strategy = {
        "kind": "best_of_n",
        "n": 4,
        "verifier": {"to": "judge", "true_accept": 0.9, "false_accept": 0.2},
    }
    puzzles = of_tasks("4 req/s", {"strategy": strategy, "accuracy": 0.4})
    return run(
        deployments=TASK_DEPLOYMENTS, workloads=[puzzles, workload("2 req/s", name="chat", to="policy")]
    )


@pytest.fixture(scope="session")
def anchored() -> Result:
    """A vote of a model that a benchmark knows, and names that try to break out."""
    tasks = {
        "strategy": {"kind": "vote", "n": 5},
        "benchmark": "aime24",
        "weights": {"policy": "r1-distill-qwen-32b"},
    }
    puzzles = of_tasks("2 req/s", tasks, name=HOSTILE, slo={"e2el": "10 s"})
    return run(deployments=TASK_DEPLOYMENTS[:1], workloads=[puzzles])


@pytest.fixture(scope="session")
def tasks_overloaded() -> Result:
    """More agents than the deployment can serve; nobody says how often they are right."""
    strategy = {"kind": "agent", "mean_turns": 4, "tool_latency": "0.1 s"}
    return run(deployments=TASK_DEPLOYMENTS[:1], workloads=[of_tasks("200 req/s", {"strategy": strategy})])
