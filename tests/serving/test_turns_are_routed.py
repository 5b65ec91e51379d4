"""Each call of a task is a request of its own: routers say whether it finds the KV of the one before."""

from __future__ import annotations

import pytest
import toy_tasks

from clustersim.simulation import simulate

REPLICAS = 3


def played(router: str, **tasks: object) -> tuple[float, set[int]]:
    """Return the share of input found in caches, and on how many replicas each task was."""
    strategy = {"kind": "conversation", "turns": 4, "new": 20, "think_time": "1 s"}
    result = simulate(
        toy_tasks.tasks_scenario(
            strategy, num=20, tasks=tasks, deployment={"replicas": REPLICAS, "router": router}
        )
    )
    rows = result.requests
    return (
        float(rows["cached_tokens"].sum() / rows["input_tokens"].sum()),
        set(rows.groupby("task")["replica"].nunique()),
    )


@pytest.mark.parametrize("router", ["session_affine", "prefix_aware"])
def test_turns_come_back_to_their_kv(router: str) -> None:
    cached, replicas = played(router)
    assert replicas == {1}
    assert cached > 0.5


def test_a_router_that_knows_no_sessions_finds_less() -> None:
    cached, replicas = played("round_robin")
    assert max(replicas) > 1
    assert cached < 0.8 * played("session_affine")[0]


@pytest.mark.parametrize("strategy", ["revise", "tree_search", "agent"])
def test_what_goes_on_from_an_answer_is_routed_whatever_the_strategy(strategy: str) -> None:
    def most(router: str) -> int:
        scenario = toy_tasks.tasks_scenario(
            {"kind": strategy}, num=12, deployment={"replicas": REPLICAS, "router": router}
        )
        return int(simulate(scenario).requests.groupby("task")["replica"].nunique().max())

    assert most("session_affine") == 1
    assert most("round_robin") > 1


def test_samples_of_one_prompt_go_together_whatever_the_router_says() -> None:
    def replicas_of(forks: str) -> set[int]:
        result = simulate(
            toy_tasks.tasks_scenario(
                {"kind": "best_of_n", "n": 6},
                num=10,
                tasks={"forks": forks},
                deployment={"replicas": REPLICAS, "router": "round_robin"},
            )
        )
        rows = result.requests
        return set(rows[rows["role"] != "check"].groupby("task")["replica"].nunique())

    assert replicas_of("together") == {1}
    assert max(replicas_of("spread")) > 1
