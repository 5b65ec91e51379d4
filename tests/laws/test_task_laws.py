"""Tasks under random load: nothing is lost, causes precede effects, what is cancelled stops, runs equal steps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import toy
import toy_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.records import CANCELLED, FINISHED, REJECTED, SHED, WAITING, RequestRecords
from clustersim.serving.replica import Replica
from clustersim.workload.tasks import Context

SEEDS = st.integers(0, 2**32 - 1)
TIMES = RequestRecords.FLOATS
COUNTS = (
    "input_tokens", "thinking_tokens", "answer_tokens", "cached_tokens", "replica", "task", "role",
    "num_preemptions", "adapter_loads", "status",
)  # fmt: skip


def both(seed: int, kind: str | None = None) -> tuple[toy_tasks.Played, toy_tasks.Played]:
    mix = toy_tasks.draw_mix(np.random.default_rng(seed), kind)
    return toy_tasks.play(mix), toy_tasks.play(mix, "stepwise")


def assert_same(runs: toy_tasks.Played, steps: toy_tasks.Played) -> None:
    for name in TIMES:
        np.testing.assert_allclose(runs.rows[name], steps.rows[name], rtol=1e-9, atol=0, err_msg=name)
    for name in COUNTS:
        np.testing.assert_array_equal(runs.rows[name], steps.rows[name], err_msg=name)
    for name in ("first_output_s", "finish_s", "correct", "status"):
        np.testing.assert_allclose(runs.tasks[name], steps.tasks[name], rtol=1e-9, atol=0, err_msg=name)


def assert_empty(replica: Replica) -> None:
    kv, sharing = replica.kv, replica.sharing
    assert (kv.used, kv.num_decoding, replica.context) == (0, 0, 0)
    assert kv.idle == sum(prefix.blocks for prefix in kv._idle)
    assert not any(isinstance(prefix.key, Context) for prefix in kv._idle), "what tasks leave goes with them"
    assert not any([replica.waiting, replica.running, replica.computed, replica.left])
    assert not any([sharing.wants, sharing.keeps, replica._cancelled, replica._orders])


def assert_conserved(played: toy_tasks.Played) -> None:
    rows, runs = played.rows, played.runs
    status = rows["status"]
    assert (status != WAITING).all()
    assert (played.tasks["status"] != 0).all(), "every task ends"
    for replica in played.replicas:
        assert_empty(replica)
    for front in played.world.fronts:
        assert all((load.requests, load.tokens) == (0, 0) for load in front.loads)
    served = status != REJECTED
    made = runs["batch"] * runs["num_steps"] + runs["num_first_tokens"]
    assert made.sum() == played.output[served].sum()
    np.testing.assert_array_equal(played.output[~np.isfinite(rows["scheduled_s"]) & served], 0)
    prefilled = sum((audit.prefilled for audit in played.audits), start=type(played.audits[0].prefilled)())
    assert runs["prefill_tokens"].sum() == prefilled.total()
    whole = (status == FINISHED) & (rows["num_preemptions"] == 0)
    for request in np.flatnonzero(whole):
        assert prefilled[request] == rows["input_tokens"][request] - rows["cached_tokens"][request]
    for request in np.flatnonzero(status == FINISHED):
        cached, computed = next(audit.stays[request] for audit in played.audits if request in audit.stays)
        again = cached + computed - rows["input_tokens"][request]  # output made before the last preemption
        assert 0 <= again < played.output[request]
        assert again == 0 or rows["num_preemptions"][request]


def assert_causal(played: toy_tasks.Played) -> None:
    rows = played.rows
    for before, after in pairwise(TIMES):
        both_known = np.isfinite(rows[before]) & np.isfinite(rows[after])
        assert (rows[before][both_known] <= rows[after][both_known]).all(), (before, after)
    mine = rows["task"] >= 0
    task = rows["task"][mine]
    assert (rows["arrival_s"][mine] >= played.tasks["arrival_s"][task]).all()
    used = mine & (rows["role"] == 1)
    assert (rows["finish_s"][used] <= played.tasks["finish_s"][rows["task"][used]]).all()
    assert (rows["status"][used] == FINISHED).all(), "an answer rests on what was finished"
    for index in {int(each) for each in played.runs["replica"]}:
        own = played.runs["replica"] == index
        assert (played.runs["start_s"][own][1:] >= played.runs["end_s"][own][:-1]).all(), "one run at a time"


def assert_laws(seed: int, kind: str | None = None) -> None:
    runs, steps = both(seed, kind)
    assert_same(runs, steps)
    for played in (runs, steps):
        assert_conserved(played)
        assert_causal(played)
    # Step by step every plan is seen, so that the tokens of each request are counted one at a time.
    for request, status in enumerate(steps.rows["status"]):
        made = sum(audit.made[request] for audit in steps.audits)
        assert status == REJECTED or made == steps.output[request]


@settings(max_examples=150)
@given(SEEDS)
def test_every_law_at_once(seed: int) -> None:
    assert_laws(seed)


@pytest.mark.parametrize("kind", toy_tasks.KINDS)
def test_every_law_for_every_strategy(kind: str) -> None:
    for seed in range(12):
        assert_laws(seed, kind)


def test_the_mixes_preempt_evict_block_refuse_and_cancel() -> None:
    every = [both(seed, toy_tasks.KINDS[seed % len(toy_tasks.KINDS)])[0] for seed in range(84)]

    def share(what: list[bool]) -> float:
        return float(np.mean(what))

    shares = {
        "preempt": share([bool(each.rows["num_preemptions"].any()) for each in every]),
        "block": share([any(audit.blocked for audit in each.audits) for each in every]),
        "evict": share([any(audit.evicted for audit in each.audits) for each in every]),
        "turn away": share([bool((each.rows["status"] == SHED).any()) for each in every]),
        "load adapters": share([bool(each.rows["adapter_loads"].any()) for each in every]),
        "stall": share([bool(each.runs["num_stalled"].any()) for each in every]),
        "refuse": share([bool((each.rows["status"] == REJECTED).any()) for each in every]),
        "cancel": share([bool((each.rows["status"] == CANCELLED).any()) for each in every]),
        "share": share([bool(each.rows["cached_tokens"].any()) for each in every]),
        "give up": share([bool((each.tasks["status"] == 2).any()) for each in every]),
    }
    assert min(shares.values()) > 0.1, shares
    assert sum(len(each.output) for each in every) > 2000


@pytest.mark.parametrize("kind", toy_tasks.KINDS)
def test_chance_does_not_depend_on_speed(kind: str) -> None:
    """What attempts are like is drawn when they start: the same queries on a slower fleet are the same luck."""
    strategy = toy_tasks.draw_strategy(np.random.default_rng(7), kind, depth=1)
    strategy |= {"best_of_n": {"wait_for_all": True}, "vote": {"early_stop": False}}.get(kind, {})
    if kind in ("hedge", "best_of_n", "vote", "cascade", "route"):
        inner = {"hedge": "attempt", "best_of_n": "sample", "vote": "sample"}.get(kind, "cheap")
        strategy[inner] = {"kind": "agent", "mean_turns": 3, "tool_latency": "0.01 s", "call_tokens": 3}
    strategy = {key: value for key, value in strategy.items() if not key.endswith("_to")}
    strategy.pop("verifier", None)
    scenario = toy_tasks.tasks_scenario(strategy, num=20, tasks={"spread": 0.5}, deployment={"replicas": 2})
    slow = toy.Steps(base=9000, a_seq=500, slopes=(9, 0, 0, 9), a_token=1)
    fast, slower = (toy_tasks.play(toy_tasks.Mix(scenario, steps=steps)) for steps in (toy.Steps(), slow))
    assert slower.tasks["finish_s"].sum() > 2 * fast.tasks["finish_s"].sum()
    if kind != "hedge":  # which of two attempts is given depends on which is first
        np.testing.assert_array_equal(fast.tasks["correct"], slower.tasks["correct"])
        np.testing.assert_array_equal(*(np.sort(each.output) for each in (fast, slower)))
