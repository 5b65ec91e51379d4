"""Metrics from columns of numbers: latency statistics, throughput, queues, intervals. The keys are vLLM's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clustersim.records import Floats
from clustersim.units import MILLI

#: Percentiles reported beside mean, median and standard deviation.
PERCENTILES = (50, 90, 95, 99)


def latency_stats(name: str, seconds: Floats, weights: Floats | None = None) -> dict[str, float | None]:
    """Return mean_, median_, std_ and pXX_<name>_ms; every value None where there is nothing to measure.

    With weights each value counts so many times. Percentiles are linear between order statistics, as NumPy's.
    """
    keys = [f"{stat}_{name}_ms" for stat in ("mean", "median", "std", *(f"p{p}" for p in PERCENTILES))]
    if len(seconds) == 0:
        return dict.fromkeys(keys)
    if weights is None:
        quantiles = np.percentile(seconds, PERCENTILES)
        mean, std = float(seconds.mean()), float(seconds.std())
    else:
        quantiles = weighted_quantiles(seconds, weights, np.asarray(PERCENTILES) / 100)
        mean = float(np.average(seconds, weights=weights))
        std = float(np.sqrt(max(0.0, np.average((seconds - mean) ** 2, weights=weights))))
    values = [mean, float(quantiles[0]), std, *map(float, quantiles)]
    return {key: value / MILLI for key, value in zip(keys, values, strict=True)}


def weighted_quantiles(values: Floats, weights: Floats, at: ArrayLike) -> Floats:
    """Return quantiles of values of which each counts `weights` times: the smallest that reaches each share."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    index = np.searchsorted(reached, np.asarray(at) * reached[-1], side="left")
    return np.asarray(values[order][np.minimum(index, len(values) - 1)])


class Boxes:
    """Boxes in time, from start_s to end_s (n,), found once among edges_s (m + 1,) that bound m bins."""

    def __init__(self, start_s: Floats, end_s: Floats, edges_s: Floats) -> None:
        start, end = (np.clip(times, edges_s[0], edges_s[-1]) for times in (start_s, end_s))
        self.widths_s = np.diff(edges_s)
        last_bin = len(edges_s) - 2
        self._first, last = (
            np.clip(np.searchsorted(edges_s, times, side="right") - 1, 0, last_bin) for times in (start, end)
        )
        self._inside = end - start
        self._across = across = np.flatnonzero(last > self._first)
        self._first_across, self._last = self._first[across], last[across]
        self._head = edges_s[self._first_across + 1] - start[across]
        self._tail = end[across] - edges_s[self._last]
        self._inside[across] = 0.0

    def integral(self, height: ArrayLike) -> Floats:
        """Return the integral of the sum of the boxes, each of its `height` (n,), over each bin (m,)."""
        heights = np.broadcast_to(np.asarray(height, dtype=np.float64), self._first.shape)
        bins = len(self.widths_s)
        area = np.bincount(self._first, heights * self._inside, bins).astype(np.float64)
        if len(self._across):
            first, last, tall = self._first_across, self._last, heights[self._across]
            ends = np.bincount(first, tall * self._head, bins) + np.bincount(last, tall * self._tail, bins)
            # Between its first and its last bin a box fills whole bins.
            level = np.bincount(first + 1, tall, bins + 1) - np.bincount(last, tall, bins + 1)
            area = area + ends + np.cumsum(level)[:bins] * self.widths_s
        return area


def step_integral(start_s: Floats, end_s: Floats, height: ArrayLike, edges_s: Floats) -> Floats:
    """Return the integral, between consecutive edges, of a sum of boxes of `height` from start to end; (edges - 1,)."""
    return Boxes(start_s, end_s, edges_s).integral(height)


def time_average(start_s: Floats, end_s: Floats, height: ArrayLike, window: tuple[float, float]) -> float:
    """Return the time average over a window of a sum of boxes."""
    length = window[1] - window[0]
    inside = np.clip(end_s, *window) - np.clip(start_s, *window)
    return float(np.sum(inside * np.asarray(height, dtype=np.float64)) / length) if length > 0 else 0.0


def meets(latencies: Mapping[str, Floats], limits: Mapping[str, float]) -> NDArray[np.bool_]:
    """Return which requests meet every limit; a latency that does not exist (nan) meets it."""
    size = len(next(iter(latencies.values())))
    good = np.ones(size, dtype=bool)
    for name, limit in limits.items():
        good &= ~(latencies[name] > limit)
    return good


def confidence_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval of the mean of independent values; (mean, mean) for a single one."""
    from scipy import stats

    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, mean
    half = float(stats.t.ppf(0.5 + level / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return mean - half, mean + half
