"""A run says whether it keeps up; an idle deployment answers as the cost model says, a full one as fast as it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy

from clustersim import simulate
from clustersim.models.step import StepShape

MIXED = {
    "kind": "independent",
    "input": {"kind": "lognormal", "median": 800, "p99": 6000, "max": 20000},
    "thinking": {"kind": "lognormal", "median": 300, "p99": 3000, "max": 8000},
    "answer": {"kind": "uniform", "low": 1, "high": 300},
}
TAILS = [f"{stat}_{what}_ms" for what in ("ttft", "ttfo", "e2el", "queue") for stat in ("mean", "p90", "p99")]


def loaded(rate: float, seed: int) -> Any:
    workload = {
        "arrivals": {"kind": "poisson", "rate": f"{rate} req/s"},
        "lengths": MIXED,
        "num_requests": None,
    }
    return simulate(toy.scenario(workload=workload, horizon="5 min", warm_up="fraction"), seed)


@pytest.fixture(scope="module")
def capacity() -> float:
    return loaded(2, 0)["capacity_requests_per_s"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_deployment_that_keeps_up_is_stable(share: float, seed: int, capacity: float) -> None:
    result = loaded(share * capacity, seed)
    assert result["regime"] == "STABLE"
    assert result["unbounded"] == []
    assert all(result[tail] is not None for tail in TAILS)
    assert result["utilisation"] == pytest.approx(share, rel=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_an_overloaded_deployment_gives_no_tail_as_a_number(seed: int, capacity: float) -> None:
    result = loaded(1.4 * capacity, seed)
    assert result["regime"] == "OVERLOADED"
    assert result["queue_grew"]
    assert all(result[tail] is None for tail in TAILS)
    assert result["p50_ttft_ms"] is None  # it too grows with the length of the run
    assert result["p50_tpot_ms"] is not None


@pytest.mark.parametrize("scheduler", ["chunked_prefill", {"kind": "static_batch", "max_num_seqs": 32}])
@pytest.mark.parametrize(
    ("model", "parallelism"),
    [("llama-3.1-8b", {}), ("gpt-oss-120b", {"tp": 2}), ("qwen3-235b-a22b", {"tp": 8, "ep": 8})],
)
def test_capacity_is_what_a_full_deployment_finishes(
    model: str, parallelism: dict[str, int], scheduler: Any
) -> None:
    users = {"arrivals": {"kind": "closed_loop", "concurrency": 400}, "lengths": MIXED, "num_requests": 2500}
    deployment = {"model": model, "parallelism": parallelism, "scheduler": scheduler}
    result = simulate(toy.scenario(deployment=deployment, workload=users))
    finish = np.sort(result.requests["finish_s"])[[750, 1750]]
    assert result["capacity_requests_per_s"] == pytest.approx(1000 / (finish[1] - finish[0]), rel=0.15)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-30b-a3b"])
def test_a_lone_request_takes_what_its_steps_add_up_to(model: str) -> None:
    input_tokens, thinking, answer = 1000, 300, 50
    lengths = {"kind": "fixed", "input": input_tokens, "thinking": thinking, "answer": answer}
    workload = {"lengths": lengths, "num_requests": 1}
    result = simulate(toy.scenario(deployment={"model": model}, workload=workload))
    cost = result.plans[0].cost
    frontend = cost.engine.frontend_s.value
    prefill = frontend + float(cost.step_s(StepShape.prefill(input_tokens), False))
    steps = [
        float(cost.step_s(StepShape.decode(1, input_tokens + j), True)) for j in range(1, thinking + answer)
    ]
    expected = {"ttft": prefill, "ttfo": prefill + sum(steps[:thinking]), "e2el": prefill + sum(steps)}
    for what, seconds in expected.items():
        assert result[f"mean_{what}_ms"] == pytest.approx(1000 * seconds, rel=0.02), what
    assert result["queued_frac"] == result["mean_queue_ms"] == 0


@pytest.mark.parametrize(
    ("thinking", "answer"),
    [(0, 1), (0, 2), (1, 1), (5, 1)],
    ids=["one token", "two", "one thought", "one answer"],
)
def test_the_shortest_requests(thinking: int, answer: int) -> None:
    lengths = {"kind": "fixed", "input": 1, "thinking": thinking, "answer": answer}
    result = simulate(toy.scenario(workload={"lengths": lengths, "num_requests": 3}))
    rows = result.requests
    assert (rows["status"] == "finished").all()
    assert ((rows["first_answer_s"] > rows["first_token_s"]) == (thinking > 0)).all()
    assert ((rows["finish_s"] > rows["first_token_s"]) == (thinking + answer > 1)).all()
    assert (result["mean_tpot_ms"] is None) == (thinking + answer == 1)


def test_a_window_without_requests_has_no_latencies() -> None:
    workload = {"arrivals": {"kind": "all_at_once", "num": 5}, "num_requests": None}
    result = simulate(toy.scenario(workload=workload, warm_up={"kind": "fraction", "fraction": 0.5}))
    assert result["completed"] == 0
    assert result["p99_ttft_ms"] is None
    assert result["num_requests"] == 5


def test_users_stop_asking_at_the_horizon() -> None:
    workload = {"arrivals": {"kind": "closed_loop", "concurrency": 8}, "num_requests": None}
    rows = simulate(toy.scenario(workload=workload, horizon="20 s")).requests
    assert rows["arrival_s"].max() < 20 < rows["finish_s"].max()
    assert (rows["status"] == "finished").all()
    in_flight = [((rows["arrival_s"] <= t) & (rows["finish_s"] > t)).sum() for t in np.linspace(0, 19.9, 50)]
    assert set(in_flight) == {8}


def test_the_statistics_of_a_long_run_are_those_of_its_steps() -> None:
    """One long answer: its steps slow down and its KV fills as its context grows, all within a single run."""
    workload = {"lengths": {"kind": "fixed", "input": 10, "thinking": 20000, "answer": 1}, "num_requests": 1}
    runs, steps = (
        simulate(toy.scenario(workload=workload, engine={"mode": mode})) for mode in ("runs", "stepwise")
    )
    assert len(runs.served[0].runs["batch"]) < 10
    for stat in ("mean", "p50", "p99"):
        assert runs[f"{stat}_itl_ms"] == pytest.approx(steps[f"{stat}_itl_ms"], rel=0.05)
    assert runs["mean_kv_frac"] == pytest.approx(steps["mean_kv_frac"], rel=0.05)
    assert runs["p99_itl_ms"] > 1.02 * runs["p50_itl_ms"]
