"""Tasks whose prompts begin alike share that beginning's KV, and those of different adapters do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import toy_tasks

TOKENS = 96


def play(strategy: Any, num: int = 6, mode: str = "runs", **changes: Any) -> toy_tasks.Played:
    """Tasks one after another, each over when the next comes, with one beginning of six blocks in common."""
    workload = {
        "arrivals": {"kind": "deterministic", "rate": "1 req/s"},
        "prefix": {"kind": "shared_system_prompt", "num_prompts": 1, "tokens": TOKENS},
        **changes.pop("workload", {}),
    }
    scenario = toy_tasks.tasks_scenario(strategy, (40, 10, 5), num, workload=workload, **changes)
    return toy_tasks.play(toy_tasks.Mix(scenario, block_size=16), mode)


def test_the_beginning_of_a_prompt_is_computed_once() -> None:
    played = play("direct")
    cached = played.rows["cached_tokens"]
    assert played.rows["input_tokens"].tolist() == [40 + TOKENS] * 6
    assert cached.tolist() == [0] + [TOKENS] * 5
    assert played.runs["prefill_tokens"].sum() == 6 * (40 + TOKENS) - 5 * TOKENS
    kv = played.replicas[0].kv
    assert (kv.used, kv.idle) == (0, TOKENS // 16), "the beginning stays, what tasks left does not"
    np.testing.assert_array_equal(played.rows["priority"], 0)


def test_samples_of_a_task_share_its_prompt_and_tasks_their_beginning() -> None:
    played = play({"kind": "best_of_n", "n": 4, "verifier": {"true_accept": 0.0, "false_accept": 0.0}}, num=2)
    whole = (40 + TOKENS - 1) // 16 * 16
    cached = played.rows["cached_tokens"].reshape(2, 4)
    assert sorted(cached[0]) == [0, whole, whole, whole]
    assert sorted(cached[1]) == [TOKENS, whole, whole, whole]


def test_without_prefix_caching_nothing_is_shared() -> None:
    played = play("direct", deployment={"prefix_caching": False})
    assert not played.rows["cached_tokens"].any()


def test_other_adapters_have_other_kv_and_pass_down_to_every_request_of_a_task() -> None:
    strategy = {"kind": "revise", "rounds": 2, "critique_tokens": 3}
    many = {"adapters": {"num_adapters": 3, "zipf_exponent": 0}}
    played = play(strategy, 9, workload=many, deployment={"lora": {"max_loras": 1}})
    rows = played.rows
    by_task = [set(rows["adapter"][rows["task"] == task]) for task in range(9)]
    assert all(len(adapters) == 1 for adapters in by_task)
    first_of_task = [np.flatnonzero(rows["task"] == task)[0] for task in range(9)]
    seen: set[int] = set()
    for request in first_of_task:
        adapter = int(rows["adapter"][request])
        assert rows["cached_tokens"][request] == (TOKENS if adapter in seen else 0)
        seen.add(adapter)
    assert len(seen) == 3
    changes = 1 + int((np.diff(rows["adapter"][first_of_task]) != 0).sum())
    assert rows["adapter_loads"].sum() == changes, "one slot: loaded whenever another is asked for"


def test_priorities_of_tenants_are_those_of_their_tasks_requests() -> None:
    tenants = [{"name": str(number), "weight": 1, "priority": 10 * number} for number in range(3)]
    played = play({"kind": "vote", "n": 3}, 12, workload={"tenants": tenants})
    tenant = played.tasks["tenant"][played.rows["task"]]
    np.testing.assert_array_equal(played.rows["priority"], 10 * tenant)
    assert len(set(tenant)) == 3


def test_routers_find_a_task_where_its_beginning_is() -> None:
    steps = [
        play("direct", 8, mode, deployment={"replicas": 3, "router": "prefix_aware"})
        for mode in ("runs", "stepwise")
    ]
    assert (steps[0].rows["cached_tokens"] > 0).sum() >= 7
    np.testing.assert_array_equal(steps[0].rows["replica"], steps[1].rows["replica"])
