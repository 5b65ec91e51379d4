"""Prefixes that requests share on one replica: who computes them, when they give way, when they are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import toy

from clustersim.clock import Clock
from clustersim.records import CANCELLED, FINISHED, RequestRecords, RunRecords
from clustersim.serving.kv_cache import KvCache, Prefix
from clustersim.serving.replica import Replica
from clustersim.serving.schedulers.chunked_prefill import ChunkedPrefill
from clustersim.serving.stepwise import StepwiseReplica

STEP_S = 1.0
MODES = pytest.mark.parametrize("mode", [Replica, StepwiseReplica])


class Bench:
    """One replica whose every step takes a second, and requests that are put before it by hand."""

    def __init__(self, mode: type[Replica], num_blocks: int, block_size: int = 1, **settings: Any) -> None:
        self.env = Clock()
        self.records = RequestRecords(8)
        self.kv = KvCache(block_size, num_blocks)
        self.done: list[int] = []
        self.replica = mode(
            0, self.env, self.records, RunRecords(), ChunkedPrefill(**settings), toy.Constant(STEP_S), self.kv,
            lambda request, _now: self.done.append(request),
        )  # fmt: skip

    def prefix(self, tokens: int, parent: Prefix | None = None) -> Prefix:
        prefix = Prefix(parent)
        prefix.tokens = tokens
        return prefix

    def at(self, time: float, act: Callable[[], Any]) -> None:
        event = self.env.timeout(time)
        event.callbacks.append(lambda _event: act())

    def ask(
        self, time: float, tokens: int, output: int, wants: Prefix | None = None, keeps: Prefix | None = None
    ) -> int:
        row = self.records.add()
        self.records.input_tokens[row], self.records.answer_tokens[row] = tokens, output
        if wants:
            self.replica.sharing.wants[row] = wants
        if keeps:
            self.replica.sharing.keeps[row] = keeps
        self.at(time, lambda: self.replica.submit(row, time))
        return row

    def run(self) -> None:
        self.env.run()


@MODES
@pytest.mark.parametrize(("dropped_s", "survives"), [(5.5, True), (14.5, False)])
def test_what_was_evicted_before_room_was_made_stays_evicted(
    mode: type[Replica], dropped_s: float, survives: bool
) -> None:
    """Two idle prefixes of 8 blocks; a sequence grows from 4 to 18 of the 26. If the newer one is dropped in time,
    the older one stays; if the sequence has pushed it out before, it is computed anew, though there is room again."""
    bench = Bench(mode, 26)
    older, newer = Prefix(), Prefix()
    bench.ask(0, 8, 1, keeps=older)
    bench.ask(1, 8, 1, keeps=newer)
    bench.ask(2, 4, 15)
    bench.at(dropped_s, lambda: bench.replica.drop(newer, dropped_s))
    again = bench.ask(30, 9, 1, wants=older)
    bench.run()
    assert bench.records.cached_tokens[again] == (8 if survives else 0)
    bench.replica.drop(older, 40)
    assert (bench.kv.used, bench.kv.idle) == (0, 0)


@MODES
def test_an_eviction_may_let_in_who_waits(mode: type[Replica]) -> None:
    """The waiting request rests on a long idle prefix and has no room beside it; once that has given way to others'
    growth, its first chunk alone has."""
    bench = Bench(mode, 20, token_budget=2)
    prefix = Prefix()
    bench.ask(0, 10, 1, keeps=prefix)
    bench.ask(10, 6, 13)
    waiting = bench.ask(14, 15, 1, wants=prefix)
    bench.run()
    runs = bench.records.scheduled_s[waiting]
    other = Bench(StepwiseReplica if mode is Replica else Replica, 20, token_budget=2)
    prefix = Prefix()
    other.ask(0, 10, 1, keeps=prefix)
    other.ask(10, 6, 13)
    other.ask(14, 15, 1, wants=prefix)
    other.run()
    assert runs == other.records.scheduled_s[waiting]
    assert runs < bench.records.finish_s[1], "before the one that grows has ended"


@MODES
def test_the_first_computes_and_the_others_wait_for_it(mode: type[Replica]) -> None:
    bench = Bench(mode, 1000, token_budget=10)
    prefix = bench.prefix(30)
    rows = [bench.ask(0, 31, 2, wants=prefix) for _ in range(3)]
    bench.run()
    assert [bench.records.scheduled_s[row] for row in rows] == [0, 3, 3]
    assert [bench.records.cached_tokens[row] for row in rows] == [0, 30, 30]
    assert bench.kv.idle == 30
    assert not prefix.dropped


@MODES
def test_who_waits_for_a_prefix_computes_it_if_the_first_is_cancelled(mode: type[Replica]) -> None:
    bench = Bench(mode, 1000, token_budget=10)
    prefix = bench.prefix(30)
    first, second = (bench.ask(0, 31, 2, wants=prefix) for _ in range(2))
    bench.at(0.5, lambda: bench.replica.cancel(first, 0.5))
    bench.run()
    assert bench.records.status[first] == CANCELLED
    assert bench.records.finish_s[first] == 1
    assert bench.records.scheduled_s[second] == 1
    assert bench.records.cached_tokens[second] == 0
    assert bench.done == [second]


@MODES
def test_what_a_cancelled_request_computed_stays_for_those_that_rest_on_it(mode: type[Replica]) -> None:
    bench = Bench(mode, 1000)
    prefix = bench.prefix(30)
    first, second = (bench.ask(0, 31, 9, wants=prefix) for _ in range(2))
    bench.at(0.5, lambda: bench.replica.cancel(first, 0.5))
    third = bench.ask(3, 31, 1, wants=prefix)
    bench.run()
    assert [bench.records.cached_tokens[row] for row in (first, second, third)] == [0, 30, 30]
    assert bench.records.answer_tokens[first] == 1, "the step in progress gave it a token"
    assert bench.done == [third, second]


@MODES
@pytest.mark.parametrize(("at", "made"), [(3.5, 4), (4.0, 5), (8.0, 9), (8.5, 9)])
def test_a_cancelled_request_keeps_the_tokens_up_to_the_next_boundary(
    mode: type[Replica], at: float, made: int
) -> None:
    """Told at the time of a boundary it is off at the one after; told in its last step it is finished, silently."""
    bench = Bench(mode, 1000)
    row = bench.ask(0, 5, 9)
    bench.ask(0, 5, 20)
    bench.at(at, lambda: bench.replica.cancel(row, at))
    bench.run()
    assert bench.records.answer_tokens[row] == made
    assert bench.records.status[row] == (FINISHED if made == 9 else CANCELLED)
    assert bench.records.finish_s[row] == made
    assert bench.done == [1]


@MODES
def test_cancelled_in_the_queue_it_was_never_there(mode: type[Replica]) -> None:
    bench = Bench(mode, 1000, max_num_seqs=1)
    bench.ask(0, 5, 9)
    waiting = [bench.ask(1, 5, 9) for _ in range(3)]
    for row in waiting[:2]:
        bench.at(2.5, lambda row=row: bench.replica.cancel(row, 2.5))
    bench.run()
    assert [bench.records.answer_tokens[row] for row in waiting] == [0, 0, 9]
    assert bench.records.scheduled_s[waiting[2]] == 9


@MODES
def test_evicted_prefixes_go_children_first_and_least_recently_used_first(mode: type[Replica]) -> None:
    bench = Bench(mode, 30)
    trunk = bench.prefix(10)
    branches = [bench.prefix(15, trunk) for _ in range(2)]
    for time, branch in enumerate(branches):
        bench.ask(10 * time, 16, 1, wants=branch)
    bench.ask(30, 16, 1)  # 20 idle, so 6 of them have to go: the first branch and the second
    bench.run()
    assert [branch.resident for branch in branches] == [False, False]
    assert trunk.resident
    assert (bench.kv.used, bench.kv.idle) == (0, 10)


@MODES
def test_a_dropped_prefix_goes_with_its_last_user_and_its_last_child(mode: type[Replica]) -> None:
    bench = Bench(mode, 100)
    trunk = bench.prefix(10)
    branch = bench.prefix(15, trunk)
    bench.ask(0, 16, 10, wants=branch)
    bench.at(2.5, lambda: bench.replica.drop(trunk, 2.5))
    bench.at(3.5, lambda: bench.replica.drop(branch, 3.5))
    bench.at(5, lambda: seen.append((branch.resident, trunk.resident, bench.kv.idle)))
    seen: list[Any] = []
    bench.run()
    assert seen == [(True, True, 0)]
    assert (branch.resident, trunk.resident, bench.kv.idle, bench.kv.used) == (False, False, 0, 0)
