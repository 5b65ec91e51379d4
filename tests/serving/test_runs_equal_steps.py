"""A replica that advances in runs writes down what one that takes a step at a time does."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import event, given, settings
from hypothesis import strategies as st

from clustersim.serving.stepwise import StepwiseReplica
from clustersim.simulation import simulate

TIMES = ("arrival_s", "scheduled_s", "first_token_s", "first_answer_s", "finish_s")
COUNTS = ("num_preemptions", "adapter_loads", "replica", "status")


def assert_same(runs: dict[str, np.ndarray], steps: dict[str, np.ndarray], rel: float) -> None:
    for name in TIMES:
        np.testing.assert_allclose(runs[name], steps[name], rtol=rel, atol=0, err_msg=name)
    for name in COUNTS:
        np.testing.assert_array_equal(runs[name], steps[name], err_msg=name)


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_every_timestamp_is_equal_where_sums_are_exact(seed: int) -> None:
    mix = toy.draw_mix(np.random.default_rng(seed))
    runs, steps = toy.serve(mix), toy.serve(mix, replica=StepwiseReplica)
    event(f"preempted: {runs.requests['num_preemptions'].any()}")
    assert np.isfinite(runs.requests["finish_s"]).all()
    assert_same(runs.requests, steps.requests, 0.0)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_every_timestamp_agrees_where_sums_are_rounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mix = dataclasses.replace(toy.draw_mix(rng), replicas=1)
    times = np.sort(np.where(rng.random(len(mix.input)) < 0.3, 0.0, rng.exponential(0.1, len(mix.input))))
    mix = dataclasses.replace(mix, arrival_s=times.tolist(), think_s=float(rng.exponential(0.01)))
    made_up = toy.Steps(*rng.uniform(1, 2000, 2), tuple(rng.uniform(0, 3, 4)), *rng.uniform(0, 30, 2))
    runs, steps = toy.serve(mix, made_up), toy.serve(mix, made_up, StepwiseReplica)
    assert_same(runs.requests, steps.requests, 1e-9)


def test_the_mixes_preempt_chunk_and_cut_runs_short() -> None:
    mixes = [toy.draw_mix(np.random.default_rng(seed)) for seed in range(100)]
    outcomes = [toy.serve(mix) for mix in mixes]

    def share(what: list[Any]) -> float:
        return float(np.mean([bool(np.any(each)) for each in what]))

    assert share([each.requests["num_preemptions"] for each in outcomes]) > 0.2
    unended = [each.runs["num_prefills"] - each.runs["num_first_tokens"] for each in outcomes]
    assert share(unended) > 0.2, "prompts prefilled in chunks"
    assert share([each.runs["num_steps"] > 8 for each in outcomes]) > 0.4
    assert share([np.diff(mix.arrival_s) == 0 for mix in mixes]) > 0.5
    assert share([mix.users for mix in mixes]) > 0.2


SCENARIOS: dict[str, dict[str, Any]] = {
    "chunked, two replicas": {
        "deployment": {"replicas": 2, "scheduler": {"kind": "chunked_prefill", "token_budget": 256, "max_num_seqs": 16},
                       "router": "least_outstanding_tokens"},
        "workload": {"arrivals": {"kind": "gamma", "rate": "30 req/s", "cv": 3}},
    },
    "little memory": {
        "deployment": {"max_model_len": 4000, "serving_engine": {"name": "small", "step_overhead": "1 ms",
            "sequence_overhead": "10 us", "overlapped": False, "memory_frac": 0.28,
            "reserved": "3.5 GB"}},
        "workload": {"arrivals": {"kind": "all_at_once"}},
    },
    "static": {"deployment": {"scheduler": {"kind": "static_batch", "max_num_seqs": 8}, "max_model_len": 4000}},
    "users who think": {"workload": {"arrivals": {"kind": "closed_loop", "concurrency": 9, "think_time": "0.3 s"}}},
    "users who do not": {"deployment": {"replicas": 3},
                         "workload": {"arrivals": {"kind": "closed_loop", "concurrency": 9}}},
    "experts over eight": {"deployment": {"model": "qwen3-30b-a3b", "parallelism": {"ep": 8, "attention_dp": 8}}},
    "pipeline": {"deployment": {"parallelism": {"pp": 2, "tp": 2}}},
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_whole_simulations_agree(name: str) -> None:
    runs = simulate(toy.scenario(**SCENARIOS[name]))
    steps = simulate(toy.scenario(**SCENARIOS[name], engine={"mode": "stepwise"}))
    rows = [
        {name: result.requests[name].to_numpy() for name in (*TIMES, *COUNTS)} for result in (runs, steps)
    ]
    assert_same(*rows, 1e-9)
    assert runs["num_preemptions"] == steps["num_preemptions"]
    assert (runs["num_preemptions"] > 0) == (name == "little memory")
