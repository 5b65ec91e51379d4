"""Plans: their order, their budget, their hash, and how long they think they take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_device import FakeBackend, FakeCopy, FakeGemm, seconds

from calibrate.plan import LEVELS, ROUGH, TURN, Plan, Planned, canaries, make_plan, rates_from


def cases(sizes: int = 4) -> list[Planned]:
    backend, found = FakeBackend(), list[Planned]()
    for bench in (FakeGemm(sizes), FakeCopy()):
        found += [Planned(case, bench.work(case), bench.family) for case in bench.cases("quick", backend)]
    return found


def plan(seed: int = 0) -> Plan:
    return make_plan("default", "Fake 1", cases(), seed=seed)


def test_benchmarks_take_turns_and_keep_their_own_order() -> None:
    order = [each.case.bench for each in plan().cases]
    turn = TURN["gemm"]
    assert order[: 2 * turn + 2] == (["gemm"] * turn + ["copy"]) * 2
    assert [each for each in plan().cases if each.case.bench == "gemm"] == cases()[:16]


def test_each_repetition_has_an_order_of_its_own_that_the_seed_fixes() -> None:
    one = plan()
    orders = [one.order(repetition, one.cases, frozenset()) for repetition in range(3)]
    assert orders[0] != orders[1] != orders[2]
    for order in orders:
        assert {each.case.key for each in order} == {each.case.key for each in one.cases}
    assert plan().order(1, one.cases, frozenset()) == orders[1]
    assert plan(seed=1).order(1, one.cases, frozenset()) != orders[1]


def test_what_is_done_is_not_planned_again() -> None:
    one = plan()
    done = frozenset({(one.cases[0].case.key, 0)})
    assert one.cases[0] not in one.order(0, one.cases, done)
    assert one.cases[0] in one.order(1, one.cases, done)


def test_the_hash_is_that_of_what_was_asked_for() -> None:
    assert plan().hash == plan().hash
    assert plan().hash != plan(seed=1).hash
    assert plan().hash != make_plan("quick", "Fake 1", cases()).hash
    assert plan().hash != make_plan("default", "Fake 2", cases()).hash
    assert plan().hash != make_plan("default", "Fake 1", cases(3)).hash


def test_a_budget_keeps_the_most_worthy_and_what_is_done_is_free() -> None:
    one, rates = plan(), ROUGH["cpu"]
    assert one.within(None, rates) == one.cases
    assert one.within(0.0, rates) == ()
    some = one.within(10.0, rates)
    assert 0 < len(some) < len(one.cases)
    assert some == one.cases[: len(some)]
    assert len(one.within(20.0, rates)) > len(some)
    spent = sum(3 * one.predicted_s(each, rates) for each in some)
    assert spent <= 10.0
    done = frozenset((each.case.key, r) for each in one.cases for r in range(3))
    assert one.within(0.0, rates, done) == one.cases


def test_canaries_are_a_product_and_a_copy_and_set_the_rates() -> None:
    found = canaries(cases(), ROUGH["cpu"])
    assert [each.case.op for each in found] == ["gemm", "copy"]
    rates = rates_from([(each, seconds(each.work)) for each in found], ROUGH["cpu"])
    for each in cases():
        assert rates.call_seconds(each.work) == pytest.approx(seconds(each.work), rel=2.0)
    assert canaries([], rates) == []
    assert len(canaries(cases()[:1], rates)) == 1


def test_a_window_is_part_of_the_prediction() -> None:
    one, first = plan(), cases()[0]
    windowed = replace(first, case=replace(first.case, shape={**first.case.shape, "window_ms": 2000}))
    longer = one.predicted_s(windowed, ROUGH["cpu"]) - one.predicted_s(first, ROUGH["cpu"])
    assert longer == pytest.approx(8.0)


def test_default_and_full_repeat_in_processes_of_their_own() -> None:
    assert LEVELS["quick"].budget_s == 60.0
    assert LEVELS["default"].budget_s == 270.0
    assert LEVELS["full"].budget_s is None
    assert LEVELS["default"].repetitions == LEVELS["full"].repetitions == 3
