"""Admission: who is turned away, when, and who is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
import toy_tasks

from clustersim.errors import InputError
from clustersim.records import FINISHED, SHED
from clustersim.scenario.plan import plan
from clustersim.simulation import simulate

TICK = 2.0**-9
TIMES = ("entered_s", "scheduled_s", "first_token_s", "finish_s")


def played(
    admission: Any, workload: dict[str, Any], blocks: int = 1000, **deployment: Any
) -> dict[str, np.ndarray]:
    """Rows of plain requests on toy replicas, the same to the last bit in both modes."""
    scenario = toy.scenario(
        deployment={"serving_engine": toy_tasks.ENGINE, "admission": admission, **deployment},
        workload={"lengths": {"kind": "fixed", "input": 32, "answer": 20}, "num_requests": 30, **workload},
    )
    runs, steps = (
        toy_tasks.play(toy_tasks.Mix(scenario, 16, [blocks]), mode) for mode in ("runs", "stepwise")
    )
    for name in TIMES:
        np.testing.assert_allclose(runs.rows[name], steps.rows[name], rtol=1e-9, err_msg=name)
    np.testing.assert_array_equal(runs.rows["status"], steps.rows["status"])
    for replica in runs.replicas:
        assert not replica.waiting
        assert not replica.running
        assert replica.kv.used == 0
    assert set(runs.rows["status"]) <= {FINISHED, SHED}
    shed = runs.rows["status"] == SHED
    assert np.isnan(runs.rows["scheduled_s"][shed]).all()
    assert (runs.output[shed] == 0).all()
    return runs.rows


def test_a_queue_limit_lets_in_as_many_as_it_says() -> None:
    rows = played({"kind": "queue_limit", "max_outstanding": 4}, {"arrivals": "all_at_once"}, replicas=2)
    assert (rows["status"] == FINISHED).sum() == 8
    assert (rows["finish_s"][rows["status"] == SHED] == TICK).all(), (
        "told when they come through the frontend"
    )


def test_outstanding_requests_never_pass_the_limit() -> None:
    rows = played(
        {"kind": "queue_limit", "max_outstanding": 3},
        {"arrivals": {"kind": "deterministic", "rate": "256 req/s"}},
    )
    inside = rows["status"] == FINISHED
    assert inside.any()
    assert not inside.all()
    for at in rows["entered_s"][inside]:
        assert ((rows["entered_s"][inside] <= at) & (rows["finish_s"][inside] > at)).sum() <= 3


def test_those_of_an_exempt_priority_are_always_let_in() -> None:
    tenants = [{"name": "urgent", "weight": 1, "priority": 0}, {"name": "other", "weight": 1, "priority": 1}]
    rows = played(
        {"kind": "queue_limit", "max_outstanding": 1, "exempt_priority": 0},
        {"arrivals": "all_at_once", "tenants": tenants},
        scheduler="priority",
    )
    assert (rows["status"][rows["priority"] == 0] == FINISHED).all()
    assert (rows["status"][rows["priority"] == 1] == SHED).sum() >= (rows["priority"] == 1).sum() - 1


def test_slo_aware_lets_in_those_whose_prefills_fit_the_promise() -> None:
    """All come at once to one replica: of n prompts of p seconds each those with k p <= limit - frontend get in."""
    steps = toy.Steps()
    rate = 2048 / steps.mixed(0, 0, 2048, 2048 * 2049 // 2, 2048, 1, 2048)
    each_s = 32 / rate
    limit_s = TICK + 7.5 * each_s
    rows = played("slo_aware", {"arrivals": "all_at_once", "slo": {"ttft": f"{limit_s!r} s"}})
    assert (rows["status"] == FINISHED).sum() == 7
    half = played(
        {"kind": "slo_aware", "margin": 0.6}, {"arrivals": "all_at_once", "slo": {"ttft": f"{limit_s!r} s"}}
    )
    assert (half["status"] == FINISHED).sum() == int((0.6 * limit_s - TICK) / each_s)
    free = played("slo_aware", {"arrivals": "all_at_once"})
    assert (free["status"] == FINISHED).all(), "nobody was promised anything"


def test_a_deadline_takes_those_off_who_never_ran() -> None:
    limit_s = 40 * TICK
    slots = {"scheduler": {"kind": "chunked_prefill", "max_num_seqs": 2}}
    workload = {"arrivals": "all_at_once", "slo": {"ttft": f"{limit_s!r} s"}}
    rows = played("deadline", workload, **slots)
    shed = rows["status"] == SHED
    assert 0 < shed.sum() < 30
    np.testing.assert_allclose((rows["finish_s"] - rows["arrival_s"])[shed], limit_s, rtol=1e-9)
    assert (rows["scheduled_s"][~shed] <= limit_s * (1 + 1e-9)).all()
    patient = played({"kind": "deadline", "margin": 2}, workload, **slots)
    assert (patient["status"] == SHED).sum() < shed.sum()
    same = played({"kind": "slo_aware", "margin": 1000, "give_up_late": True}, workload, **slots)
    np.testing.assert_array_equal(same["finish_s"], rows["finish_s"])


def test_a_queue_that_is_given_up_lets_the_next_in_at_once() -> None:
    """The head is too long for the room that is left; once it is given up, the short one behind it can be admitted."""
    steps, ticks = toy.Steps(), toy.TICK_S
    late = 30_000 * ticks
    scenario = toy.scenario(
        deployment={"serving_engine": toy_tasks.ENGINE, "admission": "deadline"},
        workloads=[
            {"name": name, "arrivals": "all_at_once", "num_requests": 1, "slo": {"ttft": f"{limit!r} s"},
             "lengths": {"kind": "fixed", "input": size, "answer": answer}}
            for name, size, answer, limit in (
                ("long", 200, 200, 100.0), ("big", 400, 4, late), ("small", 16, 4, 100.0))
        ],
    )  # fmt: skip
    rows = [
        toy_tasks.play(toy_tasks.Mix(scenario, 16, [28], steps), mode).rows for mode in ("runs", "stepwise")
    ]
    for name in TIMES:
        np.testing.assert_allclose(rows[0][name], rows[1][name], rtol=1e-9, err_msg=name)
    assert rows[0]["status"].tolist() == [FINISHED, SHED, FINISHED]
    assert rows[0]["finish_s"][1] == late
    step_s = steps.decode(1).at(100)
    assert late <= rows[0]["scheduled_s"][2] <= late + step_s
    assert rows[0]["finish_s"][2] < rows[0]["finish_s"][0]


@pytest.mark.parametrize("frontend", ["0 s", f"{TICK} s"])
def test_users_who_are_turned_away_wait_before_they_ask_again(frontend: str) -> None:
    engine = {**toy_tasks.ENGINE, "frontend": frontend}
    rows = played(
        {"kind": "queue_limit", "max_outstanding": 1, "retry_after": "0.5 s"},
        {"arrivals": {"kind": "closed_loop", "concurrency": 3}}, serving_engine=engine,
    )  # fmt: skip
    shed = rows["status"] == SHED
    assert shed.any()
    told = rows["finish_s"][shed]
    later = rows["arrival_s"][rows["arrival_s"] > 0]
    again = [np.isclose(later, at + 0.5, rtol=1e-12).any() for at in told if at + 0.5 <= later.max()]
    assert again
    assert all(again)


def test_closed_loops_of_tasks_that_are_turned_away_end() -> None:
    scenario = toy.scenario(
        horizon="10 s",
        deployment={"admission": {"kind": "queue_limit", "max_outstanding": 2, "retry_after": "0.25 s"}},
        workload={"arrivals": {"kind": "closed_loop", "concurrency": 8}, "num_requests": None,
                  "tasks": {"strategy": {"kind": "best_of_n", "n": 4}, "accuracy": 0.5}},
    )  # fmt: skip
    result = simulate(scenario)
    assert result["shed"] > 0
    assert result["tasks_given_up"] > 0
    assert result["num_tasks"] == len(result.tasks)
    assert np.isfinite(result.tasks["finish_s"]).all()
    assert result.tasks["joules"].sum() > 0


def test_metrics_count_who_was_turned_away() -> None:
    tenants = [{"name": "a", "weight": 1, "priority": 0}, {"name": "b", "weight": 1, "priority": 1}]
    result = simulate(
        toy.scenario(
            deployment={"admission": {"kind": "queue_limit", "max_outstanding": 5, "exempt_priority": 0},
                        "scheduler": "priority"},
            workload={"arrivals": "all_at_once", "tenants": tenants, "slo": {"ttft": "10 min"}},
        )
    )  # fmt: skip
    counts = result.requests["status"].value_counts()
    assert result["shed"] == counts["shed"] > 0
    assert result["shed_frac"] == counts["shed"] / 100
    assert result["completed"] == counts["finished"]
    assert result["failed"] == 0
    assert result["goodput_frac"] == pytest.approx(counts["finished"] / 100), (
        "who was turned away got nothing"
    )
    assert result["tenants"]["asks.a"]["shed"] == 0
    assert result["tenants"]["asks.b"]["shed"] == result["shed"]
    assert "shed" not in simulate(toy.scenario(workload={"num_requests": 3})).metrics
    idle = simulate(toy.scenario(deployment={"admission": "deadline"}, workload={"num_requests": 3}))
    assert any("nobody was turned away" in line for line in idle["settings_without_effect"])


def two(**changes: Any) -> Any:
    first = {"name": "prompts", "model": "llama-3.1-8b", "on": "pool"}
    second = {"name": "serve", "model": "llama-3.1-8b", "on": "pool", "prefill_by": "prompts"}
    for name, data in changes.items():
        {"prompts": first, "serve": second}[name].update(data)
    lengths = {"kind": "fixed", "input": 2000, "answer": 10}
    workload = {"name": "asks", "to": "serve", "num_requests": 20,
                "arrivals": {"kind": "deterministic", "rate": "100 req/s"}, "lengths": lengths,
                "slo": {"ttft": "0.15 s"}}  # fmt: skip
    return toy.scenario(deployments=[first, second], workloads=[workload])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"serve": {"admission": "deadline"}}, "cannot be given up; use queue_limit"),
        ({"serve": {"admission": {"kind": "slo_aware", "give_up_late": True}}}, "cannot be given up"),
        (
            {"prompts": {"admission": {"kind": "queue_limit", "max_outstanding": 1}}},
            "give that one the admission",
        ),
    ],
)
def test_what_cannot_work_with_remote_prefill_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        plan(two(**changes))


def test_admission_looks_at_who_prefills() -> None:
    result = simulate(two(serve={"admission": "slo_aware"}))
    assert 0 < result["shed"] < 20
    assert result["deployments"]["serve"]["shed"] == result["shed"]
    limited = simulate(two(serve={"admission": {"kind": "queue_limit", "max_outstanding": 3}}))
    assert 0 < limited["shed"] < 17
