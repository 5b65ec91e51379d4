"""Timing one case: batches, warm-up, the stop rule and the flags, on a device whose clock is made up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_device import FakeBackend

from calibrate import contention
from calibrate.backends.call import Call
from calibrate.case import Case
from calibrate.contention import Gate, Reading, between
from calibrate.pace import SPACER_S
from calibrate.timing import Rule, measure

CASE = Case("gemm", "gemm", "bf16", {"m": 1})
QUIET = Gate(thresholds=())


class Clockwork(FakeBackend):
    """Each call takes the next of a sequence of seconds, and the clock advances by it."""

    def __init__(self, each: Callable[[], Iterator[float]]) -> None:
        super().__init__()
        self.sequence, self.clock_s, self.batches = each(), 0.0, list[int]()

    def time(self, call: object, calls: int = 1) -> float:
        took = next(self.sequence)
        self.clock_s += took * calls
        self.batches.append(calls)
        return took


def timed(backend: Clockwork, **rule: float) -> object:
    return measure(CASE, lambda: None, backend, Rule(**rule), gate=QUIET, now=lambda: backend.clock_s)  # type: ignore[arg-type]


def test_equal_samples_stop_at_the_fewest_that_have_an_interval() -> None:
    samples = timed(Clockwork(lambda: itertools.repeat(1e-3)))
    assert len(samples.seconds) == 15
    assert samples.steady
    assert samples.flags == ()
    assert samples.calls_per_sample == 1


def test_a_short_call_is_batched_to_twenty_microseconds() -> None:
    backend = Clockwork(lambda: itertools.repeat(1e-7))
    samples = timed(backend)
    assert samples.calls_per_sample in (200, 201)
    assert samples.seconds[0] == 1e-7
    assert backend.batches[-1] == samples.calls_per_sample


def test_noise_is_sampled_until_the_interval_is_narrow_or_time_is_up() -> None:
    draw = np.random.default_rng(0)

    def noisy(share: float) -> Callable[[], Iterator[float]]:
        return lambda: (1e-3 * (1 + share * x) for x in iter(lambda: float(draw.random()), None))

    narrow = timed(Clockwork(noisy(0.2)), max_s=100.0)
    assert 15 < len(narrow.seconds) < 2000
    assert narrow.notes["half_width_frac"] <= 0.02
    wide = timed(Clockwork(noisy(5.0)), max_s=0.05)
    assert "max_time" in wide.flags
    assert sum(wide.seconds) == pytest.approx(0.05, rel=0.3)


def test_a_slow_call_gets_its_least_samples_and_says_so() -> None:
    samples = timed(Clockwork(lambda: itertools.repeat(10.0)), max_s=1.0, warm_up_s=1.0)
    assert len(samples.seconds) == 3
    assert "max_time" in samples.flags
    assert not samples.steady


def test_warm_up_ends_when_the_state_is_steady() -> None:
    def settling() -> Iterator[float]:
        for i in itertools.count():
            yield 1e-3 * (1 + 2.0 * np.exp(-i / 10))

    samples = timed(Clockwork(settling), warm_up_s=1.0)
    assert samples.steady
    assert max(samples.seconds) < 1.02e-3
    endless = Clockwork(lambda: (1e-3 * 1.01**i for i in itertools.count()))
    assert not timed(endless, warm_up_s=0.05).steady


def test_two_regimes_are_flagged() -> None:
    samples = timed(Clockwork(lambda: itertools.cycle([1e-3, 2e-3])), max_s=0.1)
    assert "mixed_regime" in samples.flags


def test_the_gate_names_what_speaks_against_samples() -> None:
    calm = {"psi_cpu_s": 1.0, "busy_s": 10.0, "steal_s": 0.0, "own_s": 5.0, "switches": 3.0}
    before = Reading(0.0, calm, 0.1)
    quiet = between(before, Reading(1.0, {**calm, "busy_s": 11.0, "own_s": 6.0}, 0.1))
    assert Gate().judge(quiet, on_cpu=True) == ()
    busy = between(before, Reading(1.0, {**calm, "psi_cpu_s": 1.8, "busy_s": 12.0, "own_s": 5.4}, 9.0))
    reasons = Gate().judge(busy, on_cpu=True)
    assert [reason.split()[0] for reason in reasons] == ["psi_cpu", "others_cpu", "cpu_per_wall"]
    assert len(Gate().judge(busy, on_cpu=False)) == 2
    assert Gate().judge({**busy, "interval_s": 0.01}, on_cpu=True) == ()
    assert Gate().refuses(2, 10)
    assert not Gate().refuses(1, 10)


def test_a_host_is_read_as_far_as_it_can_be(tmp_path: object) -> None:
    found = between(contention.read(), contention.read())
    assert found["interval_s"] > 0
    bare = contention.read(tmp_path)  # type: ignore[arg-type]
    assert set(bare.counters) == {"own_s", "switches"}


def test_a_contended_case_is_flagged() -> None:
    always = Gate(thresholds=(contention.Threshold("interval_s", -1.0, "always"),))
    backend = FakeBackend()
    contention_free = measure(CASE, lambda: 1e-3, backend, Rule(), gate=QUIET)
    assert "contended" not in contention_free.flags
    assert contention_free.notes["power_w"] == 30.0
    assert always.judge({"interval_s": 1.0}, on_cpu=True) == ("interval_s 1 > -1: always",)


class Spaced(Clockwork):
    """A core whose spacer is noted down."""

    def __init__(self) -> None:
        super().__init__(lambda: itertools.repeat(1e-7))
        self.told = list[str]()

    def spacer(self) -> Callable[[], None]:
        return self.pause

    def pause(self) -> None:
        self.told.append("spacer")

    def time(self, call: object, calls: int = 1) -> float:
        self.told.append("spacer" if call == self.pause else "call")
        return super().time(call, calls)


def test_each_cold_call_is_timed_alone_after_the_spacer() -> None:
    backend = Spaced()
    samples = timed(backend)
    assert samples.calls_per_sample == 1
    assert samples.notes[SPACER_S] == 1e-7
    told, pace = "".join(each[0] for each in backend.told), "s" * 6
    assert told == pace + "c" + "sc" * ((len(told) - 13) // 2) + pace, "the first call compiles"


@pytest.mark.parametrize(
    ("cache", "clock"), [("warm", None), ("cold", "wall")], ids=["warm", "with a clock of its own"]
)
def test_other_calls_follow_themselves(cache: Any, clock: Any) -> None:
    backend = Spaced()
    call = Call(lambda: None, clock=clock)
    samples = measure(
        replace(CASE, cache=cache), call, backend, Rule(), gate=QUIET, now=lambda: backend.clock_s
    )
    assert samples.calls_per_sample > 1
    assert "spacer" not in backend.told
