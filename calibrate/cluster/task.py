"""What is measured at one moment, and the loop that times it, which all ranks of a case run in step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from calibrate import contention
from calibrate.case import Case, Samples
from calibrate.statistics import MIN_SAMPLES, half_width_frac
from calibrate.timing import Rule

#: Bytes that drain a token bucket just before a sample: more than the bursts that links were seen shaped with.
DRAIN_BYTES = 2**20
#: Pause that refills it (256 KB at 10 MB/s takes 26 ms).
REST_S = 0.03
#: Sizes from here on are measured with the bucket drained.
DRAINED_FROM = 2 * 2**20
_LEAST_WARM_UPS, _MOST_WARM_UPS = 1, 5
#: Few samples are enough where the middle half of them lies within this many `half_width_frac` of their median.
_AGREE = 2.0
#: Samples that do not agree go on, to MIN_SAMPLES, for no longer than this many `max_s`. Where TCP sends both ways at
#: once, acknowledgements queue behind data: one exchange in three was seen 2 to 20 % late, over plain sockets too.
_LONGER = 30.0
#: Bytes a second believed of a link that nothing is known of; for time limits alone.
SLOW_LINK = 10e6


@dataclass(frozen=True)
class Part:
    """One case and the ranks that take part, by name; the first one decides and records."""

    case: Case
    ranks: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """Parts with disjoint ranks, measured at one moment, by ranks started with `env`."""

    parts: tuple[Part, ...]
    rule: Rule
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    optional: bool = False
    """Whether it is left out where one call is found to take longer than the plan's limit."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of its cases."""
        return tuple(part.case.key for part in self.parts)

    @property
    def ranks(self) -> frozenset[str]:
        """Return every rank that takes part."""
        return frozenset(rank for part in self.parts for rank in part.ranks)

    @property
    def name(self) -> str:
        """Return it in words, for progress and errors."""
        case = self.parts[0].case
        size = f" {case.shape['bytes']} bytes" if "bytes" in case.shape else ""
        return f"{case.op}{size} {'all at once' if len(self.parts) > 1 else case.path}"

    def call_s(self, link_bytes_per_s: float) -> float:
        """Return the rough seconds of one call at the rate of the slowest link known."""
        return max(part.case.shape.get("bytes", 0) for part in self.parts) / link_bytes_per_s

    def predicted_s(self, link_bytes_per_s: float = SLOW_LINK) -> float:
        """Return the rough seconds of the whole task."""
        call = self.call_s(link_bytes_per_s) + DRAIN_BYTES / link_bytes_per_s + REST_S
        window = max(part.case.shape.get("window_ms", 0) for part in self.parts) / 1000
        calls = self.rule.least_samples + _MOST_WARM_UPS
        return 1.0 + self.rule.max_s + self.rule.warm_up_s + calls * (call + window)


class Pace:
    """Decides, on the rank that records, whether to warm up, sample or stop; times in seconds."""

    def __init__(self, rule: Rule, now: Callable[[], float] = time.monotonic) -> None:
        self.rule, self.now = rule, now
        self.started, self.warm_ups = now(), 0
        self.seconds: list[float] = []
        self.sampling_since: float | None = None

    def goes_on(self) -> bool:
        """Return whether one more call is wanted."""
        rule = self.rule
        if self.sampling_since is None:
            late = self.now() - self.started > rule.warm_up_s
            if self.warm_ups < _LEAST_WARM_UPS or (self.warm_ups < _MOST_WARM_UPS and not late):
                return True
            self.sampling_since = self.now()
        n, spent = len(self.seconds), self.now() - self.sampling_since
        if n >= rule.most_samples or (
            n >= MIN_SAMPLES and half_width_frac(self.seconds) <= rule.half_width_frac
        ):
            return False
        if n < rule.least_samples or spent < rule.max_s:
            return True
        return n < MIN_SAMPLES and spent < _LONGER * rule.max_s and not self._agree()

    def _agree(self) -> bool:
        """Return whether the middle half of the samples is narrow; a rule without a width asks for no more."""
        low, middle, high = np.quantile(self.seconds, (0.25, 0.5, 0.75))
        width = _AGREE * self.rule.half_width_frac
        return width <= 0 or bool(high - low <= width * middle)

    def took(self, seconds: float) -> None:
        """Take a call's time; the first ones warm up and are not kept."""
        if self.sampling_since is None:
            self.warm_ups += 1
        else:
            self.seconds.append(seconds)


def recorded(
    case: Case, run: Callable[[], tuple[Sequence[float], int]], *, node: str, rank: int
) -> dict[str, Any] | None:
    """Run a case and return its Samples as plain data, None on ranks that do not record.

    `run` returns seconds a call, empty where this rank does not record, and the calls in a sample.
    """
    before = contention.read()
    seconds, calls = run()
    readings = contention.between(before, contention.read())
    if not seconds:
        return None
    reasons = contention.Gate().judge(readings, on_cpu=False)
    flags = (*(("contended",) if reasons else ()), *(() if len(seconds) >= MIN_SAMPLES else ("few_samples",)))
    return Samples(
        case, tuple(map(float, seconds)), "wall", calls, rank=rank, node=node, flags=flags, notes=readings
    ).as_dict()
