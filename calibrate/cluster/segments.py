"""Lines through the medians of sizes: where one ends and the next begins, and the slope of the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from calibrate.statistics import Array, mad

MOST_SEGMENTS, LEAST_SIZES = 3, 3
#: Relative residual that no segment is spent on.
RESIDUAL_FLOOR = 0.01


@dataclass(frozen=True)
class SizeSamples:
    """All samples of one size on one link, in runs (process-level repetitions)."""

    bytes: float
    """Bytes that one rank sends."""
    runs: tuple[Array, ...]
    """Seconds."""
    drained: bool = False
    """Whether the link was kept busy until just before each sample."""

    @classmethod
    def of(cls, size: float, seconds: ArrayLike, *, drained: bool = False) -> SizeSamples:
        """Return the samples of one run."""
        return cls(float(size), (np.asarray(seconds, dtype=float),), drained)


class Segment(NamedTuple):
    """From this message size on: seconds = latency_s + bytes / bandwidth. A negative latency is a burst's."""

    from_bytes: float
    latency_s: float
    bandwidth_bytes_per_s: float


def slope_of(size: ArrayLike, seconds: ArrayLike) -> float:
    """Return seconds a byte: the median slope of all pairs of sizes, weighted by their distance."""
    x, y = np.asarray(size, dtype=float), np.asarray(seconds, dtype=float)
    i, j = np.triu_indices(len(x), 1)
    keep = x[i] != x[j]
    distance, slopes = np.abs(x[j] - x[i])[keep], ((y[j] - y[i])[keep] / (x[j] - x[i])[keep])
    order = np.argsort(slopes)
    weight = np.cumsum(distance[order])
    half = weight[-1] / 2
    at = int(np.searchsorted(weight, half))
    # Half the weight on either side: the middle of the two, as of an even number of values.
    if np.isclose(weight[at], half) and at + 1 < len(order):
        return float((slopes[order[at]] + slopes[order[at + 1]]) / 2)
    return float(slopes[order[at]])


def median_of(runs: Sequence[Array]) -> float:
    """Return the median of the runs' medians, in seconds."""
    return float(np.median([np.median(run) for run in runs]))


def _line(size: Array, t: Array) -> tuple[float, float]:
    """Return latency and slope (at least 0) of least relative squares."""
    w = 1.0 / t**2
    mean_x, mean_y = np.average(size, weights=w), np.average(t, weights=w)
    spread = np.sum(w * (size - mean_x) ** 2)
    slope = max(0.0, float(np.sum(w * (size - mean_x) * (t - mean_y)) / spread)) if spread > 0 else 0.0
    return float(mean_y - slope * mean_x), slope


def segments_of(size: Array, t: Array, cuts: Sequence[int]) -> tuple[Segment, ...]:
    """Return a line of least relative squares between each two cuts (places in `size`)."""
    found = []
    for begin, end in zip((0, *cuts), (*cuts, len(size)), strict=True):
        latency, slope = _line(size[begin:end], t[begin:end])
        found.append(Segment(float(size[begin]) if begin else 0.0, latency, 1.0 / max(slope, 1e-15)))
    return tuple(found)


def evaluate(segments: Sequence[Segment], size: Array) -> Array:
    """Return seconds of messages of `size` bytes, each by the segment it lies in; never below 0."""
    starts = np.array([each.from_bytes for each in segments])
    at = np.maximum(0, np.searchsorted(starts, size, side="right") - 1)
    latency = np.array([each.latency_s for each in segments])[at]
    return np.asarray(
        np.maximum(latency + size / np.array([each.bandwidth_bytes_per_s for each in segments])[at], 0.0)
    )


def cuts_of(base: Sequence[SizeSamples], ack_s: float) -> tuple[int, ...]:
    """Return where segments begin, the first left out, by the information criterion."""
    size = np.array([each.bytes for each in base])
    t = np.maximum(np.array([median_of(each.runs) for each in base]) - ack_s, 1e-9)
    floor = max(RESIDUAL_FLOOR**2, float(np.median([_relative_error(each) ** 2 for each in base])))
    n, best, chosen = len(base), np.inf, tuple[int, ...]()
    for number in range(MOST_SEGMENTS):
        for cuts in combinations(range(LEAST_SIZES, n - LEAST_SIZES + 1), number):
            if any(after - before < LEAST_SIZES for before, after in pairwise(cuts)):
                continue
            rest = (evaluate(segments_of(size, t, cuts), size) - t) / t
            score = n * np.log(np.mean(rest**2) + floor) + (3 * number + 2) * np.log(n)
            if score < best - 1e-9:
                best, chosen = float(score), cuts
    return chosen


def _relative_error(each: SizeSamples) -> float:
    """Return the standard error of the median over the median, as of normal samples (1.2533 sigma / sqrt n)."""
    x = np.concatenate(each.runs)
    middle = float(np.median(x))
    return float(1.2533 * mad(x) / np.sqrt(len(x)) / max(middle, 1e-12))
