"""What may be said of a handful of timings: a median, its spread and its interval, and when to stop taking more.

Timings are skewed, have outliers and repeat in runs, so nothing here uses a mean or a standard deviation.
Outliers are flagged and kept; samples of two regimes are flagged and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float]

#: Samples below which a median has no interval: with fewer, the 95 % one is nearly the whole range.
MIN_SAMPLES = 15
#: The standard deviation of a normal law over its median absolute deviation.
NORMAL_MAD = 1.4826
#: Deviations (MAD, scaled) from the median beyond which a sample is flagged an outlier.
OUTLIER_MADS = 5.0
#: Windows whose medians must agree, and within which share, for a state to be called steady.
STEADY_WINDOWS, STEADY_FRAC = 3, 0.01
#: Two regimes: a cut explains this share of the variance (0.64 of a normal law's, 0.75 of a uniform one's),
#: each side holds this share of the samples, and their medians lie this share apart.
_MODES_EXPLAINED, _MODES_SIDE, _MODES_APART = 0.9, 0.15, 0.05


def mad(samples: ArrayLike) -> float:
    """Return the median absolute deviation, scaled to the standard deviation of a normal law (in the samples' unit)."""
    x = np.asarray(samples, dtype=float)
    return float(NORMAL_MAD * np.median(np.abs(x - np.median(x))))


@cache
def _median_rank(n: int, confidence: float) -> int:
    from scipy.stats import binom

    return max(1, int(binom.ppf((1 - confidence) / 2, n, 0.5)))


def median_interval(samples: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Return the order-statistic interval of the median; None for fewer than `MIN_SAMPLES`.

    The r-th smallest and r-th largest sample, r from the binomial law: exact for independent samples of any
    continuous distribution (David and Nagaraja, Order Statistics, 3rd ed., 7.1).
    """
    x = np.sort(np.asarray(samples, dtype=float))
    if len(x) < MIN_SAMPLES:
        return None
    rank = _median_rank(len(x), confidence)
    return float(x[rank - 1]), float(x[len(x) - rank])


def half_width_frac(samples: ArrayLike) -> float:
    """Return half the median's interval over the median; infinite where there is no interval."""
    interval = median_interval(samples)
    centre = float(np.median(np.asarray(samples, dtype=float))) if interval else 0.0
    return (interval[1] - interval[0]) / 2 / centre if interval and centre > 0 else float("inf")


def outliers(samples: ArrayLike) -> NDArray[np.bool_]:
    """Return which samples lie more than `OUTLIER_MADS` scaled deviations from the median."""
    x = np.asarray(samples, dtype=float)
    away = np.abs(x - np.median(x))
    return np.asarray(away > OUTLIER_MADS * max(mad(x), 1e-12 * float(np.median(np.abs(x)))))


def is_steady(medians: Sequence[float], frac: float = STEADY_FRAC) -> bool:
    """Return whether the last `STEADY_WINDOWS` windows' medians agree within `frac` of the least."""
    last = medians[-STEADY_WINDOWS:]
    return len(last) == STEADY_WINDOWS and max(last) <= min(last) * (1 + frac)


def is_mixed(samples: ArrayLike) -> bool:
    """Return whether the samples come from two regimes: a cut with a real gap and many samples on both sides.

    The cut is the one in two that explains most of the variance (Otsu 1979; Fisher 1958 for the sorted case).
    """
    x = np.sort(np.asarray(samples, dtype=float))
    n = len(x)
    side = max(2, int(np.ceil(_MODES_SIDE * n)))
    if n < MIN_SAMPLES or x[-1] <= x[0]:
        return False
    x = np.clip(x, *np.quantile(x, [0.02, 0.98]))
    cuts = np.arange(side, n - side + 1)
    total, left = x.sum(), np.cumsum(x)[cuts - 1]
    between = (left / cuts - (total - left) / (n - cuts)) ** 2 * cuts * (n - cuts) / n
    best = int(np.argmax(between))
    low, high = np.median(x[: cuts[best]]), np.median(x[cuts[best] :])
    explained = between[best] / max(float(((x - x.mean()) ** 2).sum()), 1e-300)
    return bool(explained > _MODES_EXPLAINED and high - low > _MODES_APART * float(np.median(x)))


@dataclass(frozen=True)
class Summary:
    """A case's samples over all its runs, in seconds."""

    median_s: float
    spread_s: float
    """Scaled MAD over all samples."""
    low_s: float
    high_s: float
    """95 % interval of the median: over runs by bootstrap, of one run by order statistics, else the range."""
    num_samples: int
    num_runs: int
    num_outliers: int
    mixed: bool


def summarise(runs: Sequence[ArrayLike], seed: int = 0) -> Summary:
    """Summarise runs (process-level repetitions) of one case: the median of their medians, as runs weigh alike."""
    arrays = [np.asarray(run, dtype=float) for run in runs if np.size(run)]
    if not arrays:
        raise ValueError("no samples to summarise")
    pooled = np.concatenate(arrays)
    if len(arrays) > 1:
        low, high = block_bootstrap(arrays, _median_of_medians, seed=seed)
    else:
        low, high = median_interval(pooled) or (float(pooled.min()), float(pooled.max()))
    return Summary(
        median_s=_median_of_medians(arrays), spread_s=mad(pooled), low_s=low, high_s=high,
        num_samples=len(pooled), num_runs=len(arrays), num_outliers=int(outliers(pooled).sum()),
        mixed=any(is_mixed(run) for run in arrays) or is_mixed(pooled),
    )  # fmt: skip


def _median_of_medians(runs: Sequence[Array]) -> float:
    return float(np.median([np.median(run) for run in runs]))


def resample(runs: Sequence[Array], draw: np.random.Generator) -> list[Array]:
    """Draw as many runs with replacement, then in each as many samples: between-run variance is kept."""
    chosen = draw.integers(len(runs), size=len(runs))
    return [runs[i][draw.integers(len(runs[i]), size=len(runs[i]))] for i in chosen]


def block_bootstrap(
    runs: Sequence[ArrayLike],
    statistic: Callable[[Sequence[Array]], float],
    *,
    draws: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of `statistic` over runs, then samples, drawn anew (Davison and Hinkley 3.8)."""
    arrays, draw = [np.asarray(run, dtype=float) for run in runs], np.random.default_rng(seed)
    values = [statistic(resample(arrays, draw)) for _ in range(draws)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
