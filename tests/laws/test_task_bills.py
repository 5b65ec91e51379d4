"""Whole simulations of tasks: what each took adds up to the bill, and runs say what steps do, for every strategy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import toy
import toy_tasks

from clustersim import simulate
from clustersim.records import RequestRecords
from clustersim.results.attribution import busy_seconds
from clustersim.results.result import Result

TIMES = RequestRecords.FLOATS
COUNTS = ("thinking_tokens", "answer_tokens", "cached_tokens", "num_preemptions", "replica")


def scenario(kind: str, **changes: Any) -> Any:
    """Return a strategy with parts of any kind on three deployments, two of them shared with nobody."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    deployments = [
        {"name": name, "model": "llama-3.1-8b", "on": "pool", "replicas": count}
        for name, count in (("serve", 2), ("small", 1), ("check", 1))
    ]
    lengths = {
        "kind": "independent",
        "input": {"kind": "uniform", "low": 10, "high": 2000},
        "thinking": {"kind": "uniform", "low": 0, "high": 300},
        "answer": {"kind": "uniform", "low": 1, "high": 50},
    }
    asks = {
        "name": "asks", "to": "serve", "arrivals": {"kind": "poisson", "rate": "9 req/s"}, "lengths": lengths,
        "num_requests": 15,
        "tasks": {"strategy": toy_tasks.draw_strategy(rng, kind), "accuracy": 0.5, "forks": "spread"},
    }  # fmt: skip
    plain = {**asks, "name": "plain", "num_requests": 15}
    del plain["tasks"]
    return toy.scenario(deployments=deployments, workloads=[asks, plain], **changes)


@cache
def result(kind: str) -> Result:
    return simulate(scenario(kind))


@pytest.mark.parametrize("kind", toy_tasks.KINDS)
def test_whole_simulations_agree(kind: str) -> None:
    runs, steps = result(kind).requests, simulate(scenario(kind, engine={"mode": "stepwise"})).requests
    for name in TIMES:
        np.testing.assert_allclose(runs[name], steps[name], rtol=1e-9, atol=0, err_msg=name)
    for name in COUNTS:
        np.testing.assert_array_equal(runs[name], steps[name], err_msg=name)
    assert (runs["status"] == steps["status"]).all()
    assert (runs["role"] == steps["role"]).all()


@pytest.mark.parametrize("kind", toy_tasks.KINDS)
def test_tokens_dollars_and_joules_of_tasks_add_up(kind: str) -> None:
    run = result(kind)
    tasks, rows = run.tasks, run.requests
    assert (
        tasks["useful_tokens"] + tasks["wasted_tokens"] + tasks["check_tokens"] == tasks["output_tokens"]
    ).all()
    of_tasks = rows["task"] >= 0
    output = rows["thinking_tokens"] + rows["answer_tokens"]
    assert tasks["output_tokens"].sum() == output[of_tasks].sum()
    assert tasks["num_requests"].sum() == of_tasks.sum()
    assert (tasks[["usd", "joules"]] >= 0).all(axis=None)
    assert (tasks["usd"][tasks["output_tokens"] > 0] > 0).all()
    for plan, view in zip(run.plans, run.served, strict=True):
        seconds = busy_seconds(plan, view)
        busy = (view.runs["end_s"] - view.runs["start_s"]).sum()
        assert (seconds >= 0).all()
        assert seconds.sum() == pytest.approx(busy, rel=1e-9)


def test_without_plain_requests_tasks_pay_the_whole_bill() -> None:
    changes = {"tasks": {"strategy": {"kind": "best_of_n", "n": 4}, "accuracy": 0.4}, "num_requests": 20}
    run = simulate(toy.scenario(deployment={"replicas": 2}, workload=changes))
    assert run.tasks["usd"].sum() == pytest.approx(run["usd"], rel=1e-9)
    assert run.tasks["joules"].sum() == pytest.approx(run["energy_kwh"] * 3.6e6, rel=1e-9)
    assert run["usd_per_task"] == pytest.approx(run["usd"] / 20, rel=1e-9)
    assert run["usd_per_solved"] == pytest.approx(run["usd"] / run.tasks["correct"].sum(), rel=1e-9)


def test_a_prefill_after_an_idle_hour_costs_as_much_as_one_before_it() -> None:
    """Two equal requests, one on a replica that has been idle for long: each takes the seconds of its own steps."""
    lengths = {"kind": "fixed", "input": 4000, "answer": 2}
    run = simulate(toy.scenario(workload={"arrivals": {"kind": "deterministic", "rate": "0.001 req/s"},
                                          "lengths": lengths, "num_requests": 3}))  # fmt: skip
    seconds = busy_seconds(run.plans[0], run.served[0])
    np.testing.assert_allclose(seconds, seconds.mean(), rtol=1e-6)


def test_a_long_prompt_costs_more_than_a_short_one_beside_it() -> None:
    """Both decode alike; the difference is the prefill, dealt out by tokens."""
    both = [{"name": name, "arrivals": {"kind": "all_at_once"}, "num_requests": 1,
             "lengths": {"kind": "fixed", "input": tokens, "answer": 50}}
            for name, tokens in (("long", 6000), ("short", 1000))]  # fmt: skip
    run = simulate(toy.scenario(workloads=[{**each, "to": "serve"} for each in both]))
    seconds, view = busy_seconds(run.plans[0], run.served[0]), run.served[0]
    prefill = view.runs["prefill_tokens"] > 0
    spent = (view.runs["end_s"] - view.runs["start_s"])[prefill].sum()
    assert view.runs["batch"][prefill].sum() == 0
    assert seconds[0] - seconds[1] == pytest.approx(spent * 5 / 7, rel=1e-6)
