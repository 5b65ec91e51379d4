"""Prompts prefilled by one deployment and decoded by another: nothing is lost on the way, runs equal steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
import toy_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.records import CANCELLED, FINISHED, REJECTED, WAITING, RequestRecords
from clustersim.scenario.schema import Scenario

TIMES = RequestRecords.FLOATS
COUNTS = ("cached_tokens", "replica", "num_preemptions", "status", "thinking_tokens", "answer_tokens")


def scenario(rng: np.random.Generator, when: str, tasks: bool) -> Scenario:
    """Return a small pair of pools, and a workload for them."""

    def deployment(name: str, **more: Any) -> dict[str, Any]:
        scheduler = {
            "kind": "chunked_prefill",
            "max_num_seqs": int(rng.integers(1, 9)),
            "token_budget": int(rng.choice([3, 16, 100, 10000])),
        }
        return {
            "name": name, "model": "llama-3.1-8b", "on": "pool", "replicas": int(rng.integers(1, 4)),
            "scheduler": scheduler, "router": str(rng.choice(["round_robin", "least_outstanding_tokens"])),
            "serving_engine": toy_tasks.ENGINE, **more,
        }  # fmt: skip

    lengths = {
        "kind": "independent",
        "input": {"kind": "uniform", "low": 1, "high": int(rng.choice([4, 40, 300]))},
        "thinking": {"kind": "uniform", "low": 0, "high": 20},
        "answer": {"kind": "uniform", "low": 1, "high": int(rng.choice([2, 30]))},
    }
    workload: dict[str, Any] = {
        "name": "asks", "to": "decode", "lengths": lengths, "num_requests": int(rng.integers(1, 20)),
        "arrivals": {"kind": "poisson", "rate": f"{rng.choice([1, 30, 1000])} req/s"}
        if rng.random() < 0.7 else {"kind": "closed_loop", "concurrency": 3, "think_time": "3 ms"},
    }  # fmt: skip
    if tasks:
        strategy = toy_tasks.draw_strategy(
            rng, str(rng.choice(["best_of_n", "vote", "hedge", "conversation", "agent"])), 0
        )
        text = str(strategy)
        workload["tasks"] = {"strategy": "chain_of_thought" if "small" in text or "check" in text else strategy,
                             "accuracy": 0.3}  # fmt: skip
    return Scenario.model_validate(
        {
            "name": "toy", "warm_up": "none", "seed": int(rng.integers(1 << 30)),
            "fleet": [{"site": "us-iowa", "clusters": [{"name": "pool", "node": "hgx-h100", "count": 2}]}],
            "deployments": [
                deployment("prefill"),
                deployment("decode", prefill_by="prefill", kv_transfer={"when": when}),
            ],
            "workloads": [workload],
        }
    )  # fmt: skip


def mix(seed: int, when: str, tasks: bool) -> toy_tasks.Mix:
    rng = np.random.default_rng(seed)
    blocks = [int(22 * rng.choice([1, 1.3, 2, 50])) for _ in range(2)]
    steps = toy.Steps(*rng.uniform(1, 2000, 2), tuple(rng.uniform(0, 3, 4)), *rng.uniform(0, 30, 2))
    return toy_tasks.Mix(scenario(rng, when, tasks), 16, blocks, steps, exact=False)


def check(played: toy_tasks.Played) -> None:
    """Everything that came is over, every replica empty, and the bytes on the wire are those of the prompts' KV."""
    world, rows = played.world, played.rows
    assert (rows["status"] != WAITING).all()
    for front in world.fronts:
        assert all((load.requests, load.tokens) == (0, 0) for load in front.loads)
        for replica in front.replicas:
            kv = replica.kv
            assert (kv.used, kv.num_decoding, replica.context) == (0, 0, 0)
            assert not any([replica.waiting, replica.running, replica.computed, replica.left, replica.remote])
            assert not any([replica.loading, replica.held, replica._cancelled, replica._orders])
    assert world.fronts[1].handover is not None
    assert not world.fronts[1].handover.transits
    served = rows["status"] != REJECTED
    made = played.runs["batch"] * played.runs["num_steps"] + played.runs["num_first_tokens"]
    assert made.sum() == played.output[served].sum()
    # Bytes: two accounts of every channel agree, and what was sent is what finished transfers say.
    world.flows.check()
    moved = {
        name: world.transfers.column(name)
        for name in ("request", "bytes", "end_s", "start_s", "source", "target")
    }
    arrived = np.isfinite(moved["end_s"])
    each = world.fronts[1].handover.bytes_per_token
    tokens = rows["input_tokens"][moved["request"].astype(int)]
    np.testing.assert_allclose(moved["bytes"][arrived], (tokens * each)[arrived])
    once, counts = np.unique(moved["request"][arrived], return_counts=True)
    assert (counts == 1).all()
    finished = np.flatnonzero((rows["status"] == FINISHED) & (played.output > 1))
    assert set(finished) <= set(once)
    first_decode = len(world.fronts[0].replicas)
    assert (moved["source"] < first_decode).all()
    assert (moved["target"] >= first_decode).all()


def assert_same(runs: toy_tasks.Played, steps: toy_tasks.Played) -> None:
    for name in TIMES:
        np.testing.assert_allclose(runs.rows[name], steps.rows[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for name in COUNTS:
        np.testing.assert_array_equal(runs.rows[name], steps.rows[name], err_msg=name)


@pytest.mark.parametrize("tasks", [False, True])
@pytest.mark.parametrize("when", ["layer_by_layer", "at_the_end"])
def test_runs_equal_steps_and_nothing_is_lost(when: str, tasks: bool) -> None:
    @settings(max_examples=60)
    @given(st.integers(0, 2**32 - 1))
    def run(seed: int) -> None:
        made = mix(seed, when, tasks)
        runs, steps = toy_tasks.play(made), toy_tasks.play(made, "stepwise")
        check(runs)
        check(steps)
        assert_same(runs, steps)

    run()


def test_the_mixes_preempt_wait_for_room_cancel_and_end_at_once() -> None:
    every = [
        toy_tasks.play(mix(seed, ("layer_by_layer", "at_the_end")[seed % 2], seed % 3 == 0))
        for seed in range(90)
    ]
    shares = {
        "preempt": np.mean([bool(each.rows["num_preemptions"].any()) for each in every]),
        "cancel": np.mean([bool((each.rows["status"] == CANCELLED).any()) for each in every]),
        "one token": np.mean([bool((each.output == 1).any()) for each in every]),
        "wait": np.mean([any(audit.blocked for audit in each.audits) for each in every]),
    }
    assert min(shares.values()) > 0.03, shares
