"""Schedulers keep the order that they promise, and runs equal steps under each of them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import toy
import toy_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.records import RequestRecords
from clustersim.serving.queues import ByTenant, Ordered
from clustersim.serving.replica import Replica
from clustersim.serving.schedulers.chunked_prefill import ChunkedPrefill
from clustersim.serving.schedulers.fair import Fair
from clustersim.serving.schedulers.prefill_first import PrefillFirst
from clustersim.serving.schedulers.priority import Priority
from clustersim.serving.schedulers.shortest_first import ShortestFirst
from clustersim.serving.schedulers.static_batch import StaticBatch
from clustersim.serving.stepwise import StepwiseReplica
from clustersim.simulation import simulate

SEEDS = st.integers(0, 2**32 - 1)
EVERY = (*toy.ORDERS, StaticBatch)
TIMES = ("scheduled_s", "first_token_s", "first_answer_s", "finish_s")
COUNTS = ("num_preemptions", "adapter_loads", "status")


# ---- runs equal steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY)
def test_runs_equal_steps_and_everything_ends(kind: type[Any]) -> None:
    seen: dict[str, list[bool]] = defaultdict(list)
    for seed in range(40):
        mix = toy.draw_mix(np.random.default_rng(seed), kind)
        runs, steps = toy.serve(mix), toy.serve(mix, replica=StepwiseReplica)
        for name in (*TIMES, *COUNTS):
            np.testing.assert_array_equal(runs.requests[name], steps.requests[name], err_msg=f"{seed} {name}")
        assert np.isfinite(runs.requests["finish_s"]).all(), seed
        assert [replica.kv.used for replica in runs.replicas] == [0] * mix.replicas
        seen["preempt"].append(bool(runs.requests["num_preemptions"].any()))
        seen["load adapters"].append(bool(runs.requests["adapter_loads"].any()))
        seen["advance by many steps"].append(bool((runs.runs["num_steps"] > 8).any()))
    assert min(np.mean(each) for each in seen.values()) > 0.1, seen


# ---- queues --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("apfrp"), st.integers(0, 3), st.integers(0, 20)), max_size=60))
def test_an_ordered_queue_is_a_sorted_list(acts: list[tuple[str, int, int]]) -> None:
    keys: dict[int, tuple[float, ...]] = {}
    queue, plain = Ordered(lambda request: keys[request]), list[int]()
    for request, (act, key, which) in enumerate(acts):
        if act in "af":
            keys[request] = (key,)
            (queue.append if act == "a" else queue.appendleft)(request)
            plain = sorted([*plain, request], key=lambda each: (keys[each], each))
        elif act == "p" and plain:
            assert queue.popleft() == plain.pop(0)
        elif act == "r" and plain:
            taken = plain.pop(which % len(plain))
            queue.remove(taken)
            if which % 2:  # passed over
                queue.appendleft(taken)
                plain = sorted([*plain, taken], key=lambda each: (keys[each], each))
        assert list(queue) == plain
        assert len(queue) == len(plain)
        if plain:
            assert queue[0] == plain[0]


def test_idle_time_earns_a_tenant_nothing() -> None:
    """Sheng et al., OSDI 2024, 4.1: who comes late is lifted to the others' counters, and then takes turns with them."""
    queue = ByTenant(lambda request: "ab"[request >= 100], lambda _request: 10.0)
    for request in range(50):
        queue.append(request)
    for _ in range(20):
        queue.popleft()
    for request in range(100, 120):
        queue.append(request)
    taken = [queue.popleft() >= 100 for _ in range(20)]
    assert sum(taken) == 10
    while queue:
        queue.popleft()
    assert queue.counters == {"a": 500.0, "b": 200.0 + 200.0}
    queue.append(200)  # b again: the other's line emptied last
    assert queue.counters == {"a": 500.0, "b": 500.0}


def test_a_request_that_is_passed_over_is_not_charged() -> None:
    queue = ByTenant(lambda _request: 0, lambda _request: 10.0)
    queue.append(0)
    queue.remove(0)
    queue.appendleft(0)
    assert queue.counters == {0: 0.0}
    with pytest.raises(ValueError, match="not in deque"):
        queue.remove(1)
    with pytest.raises(IndexError):
        queue[1]


# ---- what each promises --------------------------------------------------------------------------------------


def watched(check: Any) -> type[Replica]:
    class Watched(Replica):
        def _start_run(self) -> None:
            before = set(self.running)
            super()._start_run()
            check(self, [request for request in self.running if request not in before])

    return Watched


@settings(max_examples=60)
@given(SEEDS)
def test_nobody_is_admitted_while_one_more_urgent_waits_who_could_be(seed: int) -> None:
    mix = toy.draw_mix(np.random.default_rng(seed), Priority)

    def check(replica: Replica, admitted: list[int]) -> None:
        records, adapters = replica.records, replica.adapters
        for request in replica.waiting:
            if adapters is not None and not adapters.has_room(request):
                continue
            for other in admitted:
                assert (records.priority[other], records.arrival_s[other]) <= (
                    records.priority[request], records.arrival_s[request],
                )  # fmt: skip

    toy.serve(mix, replica=watched(check))


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(EVERY))
def test_a_batch_has_no_more_adapters_than_slots(seed: int, kind: type[Any]) -> None:
    mix = toy.draw_mix(np.random.default_rng(seed), kind)

    def check(replica: Replica, _admitted: list[int]) -> None:
        adapters = {replica.records.adapter[request] for request in replica.running} - {-1}
        assert not mix.adapter_slots or len(adapters) <= mix.adapter_slots

    toy.serve(mix, replica=watched(check))


def test_requests_without_a_slot_for_their_adapter_are_passed_over() -> None:
    lengths = {"input": [8] * 4, "thinking": [0] * 4, "answer": [50] * 4}
    mix = toy.Mix([0.0] * 4, **lengths, adapter=[0, 1, 0, 1], adapter_slots=1, load_s=1024 * toy.TICK_S)
    rows = toy.serve(mix).requests
    assert rows["scheduled_s"][0] == rows["scheduled_s"][2] == 0
    assert rows["scheduled_s"][1] == rows["scheduled_s"][3] == rows["finish_s"][0]
    assert rows["adapter_loads"].tolist() == [1, 1, 0, 0]
    alone = toy.serve(toy.Mix([0.0] * 2, **{key: value[:2] for key, value in lengths.items()})).requests
    assert rows["first_token_s"][0] == pytest.approx(alone["first_token_s"][0] + mix.load_s)


def test_kv_that_runs_out_takes_the_least_urgent() -> None:
    mix = toy.Mix([0.0] * 3, [16] * 3, [0] * 3, [100] * 3, Priority(), num_blocks=18, priority=[0, 5, 1])
    rows = toy.serve(mix).requests
    assert rows["num_preemptions"][0] == 0
    assert rows["num_preemptions"][1] >= 1
    assert rows["finish_s"][0] == rows["finish_s"][2] < rows["finish_s"][1]


def backlog(rng: np.random.Generator, scheduler: Any) -> tuple[toy.Mix, np.ndarray, np.ndarray]:
    """Two tenants, all of one's requests before the other's; with each request's cost."""
    count = 60
    lengths = [rng.integers(1, 200, count) for _ in range(2)]
    tenant = (np.arange(count) >= count // 2).astype(int)
    mix = toy.Mix([0.0] * count, lengths[0].tolist(), [0] * count, lengths[1].tolist(), scheduler,
                  tenant=tenant.tolist(), num_blocks=200)  # fmt: skip
    return mix, tenant, lengths[0] + 2.0 * lengths[1]


@settings(max_examples=30)
@given(SEEDS)
def test_two_backlogged_tenants_get_equal_service_within_the_cost_of_a_request(seed: int) -> None:
    mix, tenant, cost = backlog(np.random.default_rng(seed), Fair(max_num_seqs=4))
    rows = toy.serve(mix).requests
    order = np.lexsort((np.arange(len(cost)), rows["scheduled_s"]))
    given_so_far, waiting = np.zeros(2), np.bincount(tenant)
    for at, request in enumerate(order):
        last_of_plan = at + 1 == len(order) or (
            rows["scheduled_s"][order[at + 1]] > rows["scheduled_s"][request]
        )
        given_so_far[tenant[request]] += cost[request]
        waiting[tenant[request]] -= 1
        if waiting.all() and last_of_plan:
            assert abs(given_so_far[0] - given_so_far[1]) <= cost.max()
    early = rows["finish_s"] <= np.median(rows["finish_s"])
    assert (tenant[early] == 1).sum() >= 5
    first = toy.serve(backlog(np.random.default_rng(seed), ChunkedPrefill(max_num_seqs=4))[0]).requests
    early = first["finish_s"] <= np.quantile(first["finish_s"], 0.3)
    assert not tenant[early].any(), "first come first served, the second tenant waits for all of the first"


def test_prefill_first_stalls_who_decodes_for_exactly_the_prefill() -> None:
    steps = toy.Steps()
    arrival = 10_000 * toy.TICK_S
    lengths = ([0.0, arrival], [64, 300], [0, 0], [500, 10])
    mixes = [toy.Mix(*lengths, kind(token_budget=100)) for kind in (PrefillFirst, ChunkedPrefill)]
    alone = toy.serve(toy.Mix([0.0], [64], [0], [500], PrefillFirst(token_budget=100)), steps)
    first, mixed = (toy.serve(mix, steps) for mix in mixes)
    stalls = first.runs["num_stalled"] > 0
    assert stalls.sum() == 3, "300 tokens by 100 a step"
    assert (first.runs["batch"][stalls] == 0).all()
    assert (first.runs["num_stalled"][stalls] == 1).all()
    own_s = sum(steps.mixed(0, 0, 100, 0, 0, 1, 100) for _ in range(3))
    begun = first.runs["start_s"][stalls][0]
    assert first.requests["first_token_s"][1] == begun + own_s
    assert first.requests["scheduled_s"][1] == mixed.requests["scheduled_s"][1] == begun
    assert not mixed.runs["num_stalled"].any()
    together = first.runs["batch"] == 2
    assert together.any()
    slower = (first.runs["end_s"] - first.runs["start_s"])[together].sum()
    lone = alone.requests["finish_s"][0]
    assert first.requests["finish_s"][0] > lone + own_s
    assert first.requests["finish_s"][0] <= lone + own_s + slower
    tokens = first.runs["num_steps"] * first.runs["batch"] + first.runs["num_first_tokens"]
    assert tokens.sum() == 510


def test_the_gaps_of_a_stall_are_in_the_inter_token_latencies() -> None:
    settings = {"arrivals": {"kind": "poisson", "rate": "8 req/s"}, "num_requests": 60,
                "lengths": {"kind": "fixed", "input": 3000, "answer": 100}}  # fmt: skip
    first, mixed = (
        simulate(
            toy.scenario(deployment={"scheduler": {"kind": kind, "token_budget": 1000}}, workload=settings)
        )
        for kind in ("prefill_first", "chunked_prefill")
    )
    assert first["p99_itl_ms"] > 2 * mixed["p99_itl_ms"]
    assert first["p50_ttft_ms"] < mixed["p50_ttft_ms"]
    for result in (first, mixed):  # the mean gap and the mean time an output token are one
        rows = result.requests
        itl = (rows["finish_s"] - rows["first_token_s"]).sum() / (99 * len(rows))
        assert result["mean_itl_ms"] == pytest.approx(1e3 * itl, rel=0.02)


def test_the_shortest_first_has_the_least_mean_wait() -> None:
    rng = np.random.default_rng(3)
    count = 40
    lengths = ([0.0] * count, [8] * count, [0] * count, rng.integers(1, 300, count).tolist())
    means = {
        kind: toy.serve(toy.Mix(*lengths, kind(max_num_seqs=1))).requests["finish_s"].mean()
        for kind in (ShortestFirst, ChunkedPrefill, PrefillFirst, Fair)
    }
    assert min(means, key=means.__getitem__) is ShortestFirst


@pytest.mark.parametrize("mixed_chunk", [True, False])
def test_the_longest_match_finds_more_in_a_cache_too_small_for_all(mixed_chunk: bool) -> None:
    workload = {
        "arrivals": {"kind": "all_at_once"}, "num_requests": 80,
        "lengths": {"kind": "fixed", "input": 16, "answer": 4},
        "prefix": {"kind": "shared_system_prompt", "num_prompts": 6, "tokens": 160, "zipf_exponent": 0},
    }  # fmt: skip
    shares = []
    kinds = ({"kind": "longest_prefix_match", "mixed_chunk": mixed_chunk}, {"kind": "chunked_prefill"})
    for scheduler in kinds:
        deployment = {"scheduler": {**scheduler, "max_num_seqs": 2}, "serving_engine": toy_tasks.ENGINE}
        scenario = toy.scenario(deployment=deployment, workload=workload)
        rows = [toy_tasks.play(toy_tasks.Mix(scenario, 16, [30]), mode).rows for mode in ("runs", "stepwise")]
        for name in (*TIMES, "cached_tokens"):
            np.testing.assert_allclose(rows[0][name], rows[1][name], rtol=1e-9, err_msg=name)
        shares.append(rows[0]["cached_tokens"].sum() / rows[0]["input_tokens"].sum())
    assert shares[0] > 1.5 * shares[1]


def test_who_is_passed_over_goes_back_where_it_stood() -> None:
    records = RequestRecords(3)
    for _ in range(3):
        records.add()
    queue = ChunkedPrefill().queue(records)
    for request in range(3):
        queue.append(request)
    queue.remove(0)
    queue.appendleft(0)
    assert list(queue) == [0, 1, 2]
