"""Time one case: batch what is too short, warm up until the state is steady, stop when the median is known.

Every raw sample is returned in the order taken; the core's pace is noted beside them (see calibrate.pace). What
speaks against the samples stands in their flags: contended (the gate), throttled (the device's own word),
mixed_regime, outliers, max_time (stopped before the median was known to the rule's width).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calibrate import contention, pace
from calibrate.backend import DeviceBackend, Timed
from calibrate.backends.call import clock_of, wishes
from calibrate.case import Case, Samples
from calibrate.statistics import MIN_SAMPLES, half_width_frac, is_mixed, is_steady, outliers

#: A sample is at least this long: a clock's reading costs some 50 ns, so that it is under 1 % of a sample.
LEAST_SAMPLE_S = 20e-6
_MOST_CALLS = 20_000
#: Samples in a window of the warm-up.
_WINDOW = 5


@dataclass(frozen=True)
class Rule:
    """When to stop. Times in seconds; limits, not targets."""

    max_s: float = 0.5
    """Of sampling; a case slower than that still gets `least_samples`."""
    warm_up_s: float = 0.25
    half_width_frac: float = 0.02
    """Stop when half the median's 95 % interval is this share of it."""
    least_samples: int = 3
    most_samples: int = 2000
    least_sample_s: float = LEAST_SAMPLE_S


def measure(
    case: Case,
    call: Timed,
    backend: DeviceBackend,
    rule: Rule | None = None,
    *,
    repetition: int = 0,
    node: str = "",
    gate: contention.Gate | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Samples:
    """Time `call` and return every sample in seconds a call.

    Operands of a cold case lie outside the caches because `call` rotates through copies of them. Besides, a GPU's L2
    is flushed before each sample, where a sample is one call; on a core a sample is one call after the backend's
    spacer, which is not timed, so that code is as cold as in a step. A call with a clock of its own has neither.
    """
    rule, gate = rule or Rule(), gate or contention.Gate()
    before = contention.read()
    if case.cache == "cold":
        backend.flush_cache()
    spacer = backend.spacer() if case.cache == "cold" and wishes(call).clock is None else None
    pace_before_s = pace.read_s(backend, spacer) if spacer is not None else 0.0
    calls = _calls(call, backend, rule, alone=spacer is not None)
    flush = case.cache == "cold" and backend.kind == "gpu" and calls == 1

    def sample() -> float:
        if spacer is not None:
            spacer()
        if flush:
            backend.flush_cache()
        return backend.time(call, calls)

    steady = _warm_up(sample, backend, rule, now) if not wishes(call).window_s else bool(sample())
    seconds, width = _sample(sample, rule, now)
    after = contention.read()
    readings = contention.between(before, after)
    clock = clock_of(call, backend.clock)
    reasons = gate.judge(readings, on_cpu=backend.kind == "cpu" and clock == "wall")
    flags, said = _flags(seconds, width, rule), backend.contention() if backend.kind == "gpu" else []
    if any("throttl" in reason for reason in said):
        flags.append("throttled")
    if reasons or [reason for reason in said if "throttl" not in reason]:
        flags.append("contended")
    notes = {**{name: float(value) for name, value in backend.state().items()}, **readings}
    notes |= {
        "half_width_frac": width if math.isfinite(width) else -1.0,
        "outliers": float(outliers(seconds).sum()),
    }
    if spacer is not None:
        notes[pace.SPACER_S] = max(pace_before_s, pace.read_s(backend, spacer))
    return Samples(
        case=case, seconds=tuple(seconds), clock=clock, calls_per_sample=calls, node=node,
        repetition=repetition, steady=steady, flags=tuple(flags), notes=notes,
    )  # fmt: skip


def _calls(call: Timed, backend: DeviceBackend, rule: Rule, *, alone: bool) -> int:
    """Return the calls in a sample: one where it is timed `alone`, else as many as last `least_sample_s`.

    The first call, which compiles and allocates, is not looked at; a call with a window of its own fills it.
    """
    if wishes(call).window_s > 0:
        return 1
    backend.time(call)
    calls = 1
    while not alone and calls < _MOST_CALLS:
        took = max(backend.time(call, calls), 1e-9)
        needed = min(_MOST_CALLS, math.ceil(rule.least_sample_s / took))
        if needed <= calls:
            break
        calls = min(needed, calls * 10)
    return calls


def _warm_up(sample: Timed, backend: DeviceBackend, rule: Rule, now: Callable[[], float]) -> bool:
    """Run until three windows' medians, and a GPU's clock over them, agree within 1 %; return whether they did."""
    started, medians, clocks = now(), list[float](), list[float]()
    while True:
        window = []
        for _ in range(_WINDOW):
            window.append(sample())
            if now() - started > rule.warm_up_s:
                break
        medians.append(float(np.median(window)))
        if backend.kind == "gpu":
            clocks.append(float(backend.state().get("clock_mhz", 1.0)))
        if is_steady(medians) and (not clocks or is_steady(clocks)):
            return True
        if now() - started > rule.warm_up_s:
            return False


def _sample(sample: Timed, rule: Rule, now: Callable[[], float]) -> tuple[list[float], float]:
    """Return the samples, and half the median's interval over the median when they were stopped."""
    started, seconds, looked = now(), list[float](), MIN_SAMPLES
    while len(seconds) < rule.most_samples:
        seconds.append(float(sample()))
        if len(seconds) >= looked:
            if (width := half_width_frac(seconds)) <= rule.half_width_frac:
                return seconds, width
            looked = math.ceil(len(seconds) * 1.2)
        if len(seconds) >= rule.least_samples and now() - started > rule.max_s:
            break
    return seconds, half_width_frac(seconds)


def _flags(seconds: list[float], width: float, rule: Rule) -> list[str]:
    flags = []
    if width > rule.half_width_frac:
        flags.append("max_time")
    if is_mixed(seconds):
        flags.append("mixed_regime")
    if outliers(seconds).any():
        flags.append("outliers")
    return flags
