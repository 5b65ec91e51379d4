"""The time of a message over a link, fitted on samples of known sizes: latency, bandwidth, burst and their intervals.

    seconds(S) = latency + max(0, S - burst) / bandwidth            on a link with a token bucket, at rest
               = latency_i + S / bandwidth_i   from size_i on       in 1 to 3 segments (eager, rendezvous, bulk)

S is the bytes that one rank sends: the message's times `bus_factor` for a collective (nccl-tests PERFORMANCE.md).

The rule of the estimator was fixed before the links of the tests were measured:

* A size is represented by the median of its samples (low quantiles pick messages that slipped through a bucket).
* Segments: least squares of the relative residuals of the medians, 1 to 3 segments of at least three sizes, the
  number by the Bayesian information criterion (Schwarz 1978); a residual below the medians' own standard error
  earns no segment.
* Bandwidth: the slope over the sizes of at least `BULK_BYTES` in the bulk (last) segment, their bucket drained
  just before each sample: the median of the slopes of all pairs of sizes, weighted by the sizes' distance
  (Jaeckel 1972, a Theil-Sen estimator). A link passes where this is within 5 % of the truth.
* Latency: the intercept of the first segment, of messages sent at rest.
* Burst: bandwidth * (latency - intercept of the bulk of messages at rest); 0 where its interval holds 0.
* Intervals: percentile bootstrap over runs, then samples, of the same segments; 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from calibrate.cluster.segments import (
    Segment,
    SizeSamples,
    cuts_of,
    evaluate,
    median_of,
    segments_of,
    slope_of,
)
from calibrate.statistics import Array, resample
from clustersim.cost.profile import RING_STEPS

#: Sizes from here on tell the bandwidth: larger than the bursts of the token buckets that clouds shape links with.
BULK_BYTES = 2 * 2**20
#: A fit is poor above this median residual, or where half the bandwidth's interval is this share of it.
POOR_RESIDUAL, POOR_WIDTH = 0.15, 0.05
_DRAWS = 200


def bus_factor(op: str, ranks: int) -> float:
    """Return bytes that each rank sends over the message's: 2(n-1)/n for all_reduce, (n-1)/n for other rings, else 1.

    Message sizes are nccl-tests': what all_gather ends with, reduce_scatter starts with, each rank holds in all_to_all.
    """
    return RING_STEPS[op] * (ranks - 1) / ranks if op in RING_STEPS else 1.0


def num_steps(op: str, ranks: int) -> int:
    """Return the messages that follow one another in a ring collective of n ranks; 1 for a message."""
    return RING_STEPS[op] * (ranks - 1) if op in RING_STEPS else 1


class Parameter(NamedTuple):
    """A fitted value in SI units and its 95 % interval."""

    value: float
    low: float
    high: float


NO_BURST = Parameter(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LinkFit:
    """A link between two devices or nodes (or the ring of a collective) and how well it is known."""

    path: str
    """nvlink, pcie, ib, tcp, wan, ..."""
    a: str
    b: str
    op: str = "p2p"
    ranks: int = 2
    latency_s: Parameter | None = None
    """None, with the bandwidth, where the link was never measured."""
    bandwidth_bytes_per_s: Parameter | None = None
    burst_bytes: Parameter = NO_BURST
    segments: tuple[Segment, ...] = ()
    residual_frac: float | None = None
    """Median over sizes of |predicted - median| / median."""
    num_samples: int = 0
    quality: str = "ok"
    """ok, contended (other programs ran meanwhile), poor (residual or interval too wide) or missing."""
    missing: str = ""
    """Why it was not measured; empty where it was."""
    contention_factor: float | None = None
    """Times as long when all pairs of its round sent at once."""
    flags: tuple[str, ...] = field(default=())

    def seconds(self, size_bytes: ArrayLike, *, drained: bool = True) -> Array:
        """Return the time of messages of bytes that one rank sends; at rest (not drained) a burst passes unshaped.

        Raises ValueError where the link was not measured.
        """
        if self.latency_s is None or self.bandwidth_bytes_per_s is None:
            raise ValueError(f"{self.a} to {self.b} was not measured: {self.missing}")
        size = np.asarray(size_bytes, dtype=float)
        if drained:
            return np.asarray(self.latency_s.value + size / self.bandwidth_bytes_per_s.value)
        return evaluate(self.segments, size)

    def collective_seconds(self, op: str, message_bytes: ArrayLike, ranks: int) -> Array:
        """Return the time of a ring collective over links like this one: steps of latency and the bytes sent."""
        sent = self.seconds(np.asarray(message_bytes, dtype=float) * bus_factor(op, ranks))
        assert self.latency_s is not None
        return np.asarray(sent + (num_steps(op, ranks) - 1) * self.latency_s.value)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, one entry of cluster.yaml."""
        data = asdict(self)
        for name in ("latency_s", "bandwidth_bytes_per_s", "burst_bytes"):
            value: Parameter | None = getattr(self, name)
            data[name] = (
                None if value is None else dict(zip(("v", "lo", "hi"), map(float, value), strict=True))
            )
        return {
            **data,
            "segments": [list(map(float, each)) for each in self.segments],
            "flags": list(self.flags),
        }


def fit_link(
    sizes: Iterable[SizeSamples], *, ack_s: float = 0.0, seed: int = 0, contended: bool = False, **names: Any
) -> LinkFit:
    """Fit one link; `names` are the other fields of `LinkFit` (path, a, b, op, ranks, ...).

    `ack_s` seconds, the way back of an acknowledgement, are taken off every sample. Raises ValueError with fewer
    than two sizes.
    """
    given = sorted(sizes, key=lambda each: (each.drained, each.bytes))
    rested = [each for each in given if not each.drained]
    drained = [each for each in given if each.drained]
    if len({each.bytes for each in given}) < 2:
        raise ValueError("a link is fitted on two sizes at least")
    base = rested if len({each.bytes for each in rested}) >= 2 else drained
    cuts = cuts_of(base, ack_s)
    best = _Estimates.of(base, drained, cuts, ack_s, [median_of(each.runs) for each in base + drained])
    draw = np.random.default_rng(seed)
    drawn = np.array(
        [
            _Estimates.of(
                base, drained, cuts, ack_s, [median_of(resample(each.runs, draw)) for each in base + drained]
            )[:3]
            for _ in range(_DRAWS)
        ]
    )
    low, high = np.quantile(drawn, 0.025, axis=0), np.quantile(drawn, 0.975, axis=0)
    latency, bandwidth, burst = (
        Parameter(*map(float, each)) for each in zip(best[:3], low, high, strict=True)
    )
    if burst.low <= 0:
        burst = Parameter(0.0, 0.0, max(0.0, burst.high))
    flags = [] if best.bulk else ["no_bulk"]
    wide = bandwidth.high - bandwidth.low > 2 * POOR_WIDTH * bandwidth.value
    given_flags = names.pop("flags", ())
    poor = best.residual > POOR_RESIDUAL or wide or not best.bulk
    return LinkFit(
        latency_s=latency, bandwidth_bytes_per_s=bandwidth, burst_bytes=burst, segments=best.segments,
        residual_frac=best.residual, num_samples=sum(len(run) for each in given for run in each.runs),
        quality="poor" if poor else "contended" if contended else "ok", flags=(*given_flags, *flags), **names,
    )  # fmt: skip


class _Estimates(NamedTuple):
    latency: float
    bandwidth: float
    burst: float
    segments: tuple[Segment, ...]
    residual: float
    bulk: bool
    """Whether two sizes of at least BULK_BYTES told the bandwidth."""

    @classmethod
    def of(
        cls, base: Sequence[SizeSamples], drained: Sequence[SizeSamples], cuts: Sequence[int], ack_s: float,
        medians: Sequence[float],
    ) -> _Estimates:  # fmt: skip
        """Apply the rule to one median a size, those of `base` first."""
        times = np.maximum(np.asarray(medians) - ack_s, 1e-9)
        size = np.array([each.bytes for each in base])
        t, drained_t = times[: len(base)], times[len(base) :]
        segments = segments_of(size, t, cuts)
        start = cuts[-1] if cuts else 0
        bulk_size, bulk_t = np.array([each.bytes for each in drained]), drained_t
        if not drained:
            bulk_size, bulk_t = size[start:], t[start:]
        large = bulk_size >= BULK_BYTES
        bulk = int(large.sum()) >= 2
        slope = slope_of(bulk_size[large], bulk_t[large]) if bulk else slope_of(size[start:], t[start:])
        bandwidth = 1.0 / max(slope, 1e-15)
        latency = max(0.0, segments[0].latency_s)
        at_rest = float(np.median(t[start:] - size[start:] * slope)) if start else latency
        if bulk:
            segments = (*segments[:-1], Segment(segments[-1].from_bytes, at_rest, bandwidth))
        residual = float(np.median(np.abs(evaluate(segments, size) - t) / t))
        return cls(latency, bandwidth, bandwidth * (latency - at_rest), segments, residual, bulk)


def missing_links(pairs: Mapping[tuple[str, str], str], path: str) -> list[LinkFit]:
    """Return entries for links that were never measured: (a, b) -> why. They are not filled in from neighbours."""
    return [LinkFit(path, a, b, quality="missing", missing=why) for (a, b), why in pairs.items()]
