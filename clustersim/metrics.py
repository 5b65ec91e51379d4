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


def step_integral(start_s: Floats, end_s: Floats, height: ArrayLike, edges_s: Floats) -> Floats:
    """Return the integral, between consecutive edges, of a sum of boxes of `height` from start to end; (edges - 1,)."""
    heights = np.broadcast_to(np.asarray(height, dtype=np.float64), start_s.shape)
    times = np.concatenate([start_s, end_s])
    jumps = np.concatenate([heights, -heights])
    order = np.argsort(times, kind="stable")
    times, level = times[order], np.cumsum(jumps[order])
    if len(times) == 0:
        return np.zeros(len(edges_s) - 1)
    area = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(times))])
    return np.diff(np.interp(edges_s, times, area))


def time_average(start_s: Floats, end_s: Floats, height: ArrayLike, window: tuple[float, float]) -> float:
    """Return the time average over a window of a sum of boxes."""
    length = window[1] - window[0]
    return float(step_integral(start_s, end_s, height, np.asarray(window))[0] / length) if length > 0 else 0.0


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
