"""Strategies at their edges, and what is said where one cannot work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy_tasks
from pydantic import ValidationError
from toy_tasks import KINDS, Mix, play, tasks_scenario

from clustersim.errors import InputError
from clustersim.kinds import kinds
from clustersim.records import ANSWERED, FINISHED, GAVE_UP, REJECTED
from clustersim.scenario.plan import plan

EXAMPLES = [
    pytest.param({"kind": kind, **example}, id=f"{kind}-{number}")
    for kind in KINDS
    for number, example in enumerate(kinds("strategy")[kind].examples)
]
STATIC = {"scheduler": {"kind": "static_batch", "max_num_seqs": 3}}


@pytest.mark.parametrize("strategy", EXAMPLES)
@pytest.mark.parametrize(
    "changes",
    [
        {"lengths": (1, 0, 1)},
        {"lengths": (1, 1, 1)},
        {"lengths": (16, 33, 16), "num": 5},
        {"deployment": STATIC, "num": 4},
        {"workload": {"arrivals": {"kind": "closed_loop", "concurrency": 2}}, "num": 5},
        {"workload": {"arrivals": {"kind": "deterministic", "rate": "1 req/s"}, "num_requests": None}, "horizon": "5 s"},
    ],
    ids=["one token", "little thinking", "whole blocks", "static batch", "users", "horizon"],
)  # fmt: skip
def test_every_task_is_answered_or_given_up(strategy: Any, changes: dict[str, Any]) -> None:
    played = play(Mix(tasks_scenario(strategy, **changes)))
    assert len(played.tasks["status"]) >= changes.get("num", 1)
    assert set(played.tasks["status"]) <= {ANSWERED, GAVE_UP}
    answered = played.tasks["status"] == ANSWERED
    assert np.isfinite(played.tasks["correct"]).all()
    assert np.isfinite(played.tasks["first_output_s"][answered]).all()
    assert (played.tasks["first_output_s"][answered] <= played.tasks["finish_s"][answered]).all()
    assert all((replica.kv.used, replica.kv.idle) == (0, 0) for replica in played.replicas)


@pytest.mark.parametrize("strategy", EXAMPLES)
def test_where_nothing_fits_every_task_is_given_up(strategy: Any) -> None:
    played = play(Mix(tasks_scenario(strategy, (5000, 10, 10), 3, deployment={"max_model_len": 4000})))
    assert (played.rows["status"] == REJECTED).any()
    assert not np.isfinite(played.rows["scheduled_s"]).any()
    assert (played.tasks["status"] == GAVE_UP).all()
    assert (played.tasks["correct"] == 0).all()
    assert not np.isfinite(played.tasks["first_output_s"]).any()
    assert (played.rows["role"] != 1).all(), "nothing was of use"


@pytest.mark.parametrize(
    ("strategy", "status"),
    [
        ({"kind": "agent", "mean_turns": 50, "result_tokens": 900, "tool_failure": 0}, GAVE_UP),
        ({"kind": "debate", "rounds": 9, "rebuttal_tokens": 400}, GAVE_UP),
        ({"kind": "tree_search", "depth": 2, "width": 1, "branching": 1}, GAVE_UP),
        ({"kind": "parallel_thinking", "n": 3, "summary_tokens": 800}, GAVE_UP),
        ({"kind": "revise", "rounds": 9, "detects": 1, "doubts": 1, "critique_tokens": 500}, ANSWERED),
        ({"kind": "cascade", "verifier": {"true_accept": 0, "false_accept": 0}}, ANSWERED),
        ({"kind": "route", "cheap": "direct", "hard_share": 1, "finds_hard": 1}, ANSWERED),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_contexts_that_grow_too_long_on_the_way(strategy: dict[str, Any], status: int) -> None:
    """An earlier answer is given where there is one; otherwise the task is given up."""
    lengths = (1000, 1500, 10) if strategy["kind"] == "tree_search" else (1000, 200, 10)
    played = play(Mix(tasks_scenario(strategy, lengths, deployment={"max_model_len": 2000})))
    if strategy["kind"] in ("cascade", "route"):
        assert (played.rows["status"] == FINISHED).all()
    else:
        assert (played.rows["status"] == REJECTED).any()
        assert (played.rows["status"] == FINISHED).any()
    assert played.tasks["status"][0] == status
    assert ((played.rows["role"] == 1).any()) == (status == ANSWERED)


def test_a_check_that_fits_nowhere_accepts_nothing() -> None:
    names = {"serve": {}, "check": {"max_model_len": 100}}
    deployments = [
        {"name": name, "model": "llama-3.1-8b", "on": "pool", "serving_engine": toy_tasks.ENGINE, **settings}
        for name, settings in names.items()
    ]
    strategy = {"kind": "best_of_n", "n": 3, "verifier": {"to": "check"}}
    played = play(
        Mix(tasks_scenario(strategy, deployments=deployments, workload={"to": "serve"}), 16, (10**6, 10**6))
    )
    assert played.tasks["status"][0] == GAVE_UP
    assert (played.rows["status"] == REJECTED).sum() == 3


def test_users_whose_every_task_is_refused_are_told() -> None:
    loop = {"workload": {"arrivals": {"kind": "closed_loop", "concurrency": 1}}, "num": 20_000}
    changes = {"deployment": {"max_model_len": 40}, **loop}
    with pytest.raises(InputError, match='"asks": 10000 tasks in a row are longer than the 40 tokens'):
        play(Mix(tasks_scenario("direct", (64, 0, 8), **changes)))


def test_a_vote_counts_only_answers_that_are_there() -> None:
    """One way of answering fits and one does not: what was refused does not vote."""
    routed = {
        "kind": "route",
        "cheap": "direct",
        "strong": "chain_of_thought",
        "hard_share": 0,
        "false_alarms": 0.5,
    }
    strategy = {"kind": "vote", "n": 6, "sample": routed, "threshold": 0.9, "early_stop": False}
    played = play(Mix(tasks_scenario(strategy, (64, 500, 8), 50, deployment={"max_model_len": 200},
                                     tasks={"accuracy": 0.999999})))  # fmt: skip
    refused = np.bincount(played.rows["task"], played.rows["status"] == REJECTED)
    assert (refused > 0).any()
    answered = played.tasks["status"] == ANSWERED
    np.testing.assert_array_equal(answered, refused < 6)
    assert played.tasks["correct"][answered & (refused > 0)].mean() > 0.9


# ---- what is refused before anything runs -------------------------------------------------------------------------


def problems(strategy: Any, **tasks: Any) -> str:
    with pytest.raises(InputError) as caught:
        plan(tasks_scenario(strategy, tasks=tasks))
    return str(caught.value)


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "best_of_n", "verifier": {"to": "serf"}},
        {"kind": "cascade", "cheap_to": "serf"},
        {"kind": "route", "strong_to": "serf"},
        {
            "kind": "vote",
            "sample": {"kind": "cascade", "cheap": {"kind": "tree_search", "verifier": {"to": "serf"}}},
        },
    ],
)
def test_an_unknown_deployment_is_named_with_the_nearest(strategy: Any) -> None:
    said = problems(strategy)
    assert "workloads.0.tasks.strategy" in said
    assert '"serf"' in said
    assert '"serve"' in said


def test_accuracy_of_an_unknown_deployment() -> None:
    said = problems("vote", accuracy={"serve": 0.4, "sevre": 0.5})
    assert "workloads.0.tasks.accuracy.sevre" in said
    assert '"serve"' in said


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kinds("strategy")[kind].needs_accuracy])
def test_a_strategy_that_decides_by_accuracy_needs_one(kind: str) -> None:
    for strategy in ({"kind": kind}, {"kind": "hedge", "attempt": {"kind": kind}}):
        said = problems(strategy, accuracy=None)
        assert "workloads.0.tasks.strategy" in said
        assert "accuracy: 0.6" in said


def test_one_that_does_not_runs_without() -> None:
    played = play(Mix(tasks_scenario("agent", num=3, tasks={"accuracy": None})))
    assert np.isnan(played.tasks["correct"]).all()
    assert (played.tasks["status"] == ANSWERED).all()


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ({"kind": "adaptive", "min_scale": 2, "max_scale": 1}, "min_scale 2 is over max_scale 1"),
        (
            {"kind": "budget_forcing", "min_thinking": 9, "max_thinking": 1},
            "min_thinking 9 is over max_thinking 1",
        ),
        ({"kind": "best_of", "n": 3}, "best_of_n"),
    ],
)
def test_settings_that_contradict_each_other(strategy: Any, says: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=says):
        tasks_scenario(strategy)
