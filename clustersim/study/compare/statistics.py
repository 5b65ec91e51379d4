"""Paired differences and ratios of two scenarios that ran under the same seeds, and when they are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, isfinite, sqrt
from typing import Literal

import numpy as np

from clustersim.records import Floats

Verdict = Literal["real", "not told apart", "identical", "no value"]
#: Chance to tell a difference apart, if it is as large as it seems, that further replications are to give.
POWER = 0.8
#: Differences below this share of the values are rounding: runs and single steps agree to it.
_SAME = 1e-9


@dataclass(frozen=True)
class Difference:
    """What `b` is more than `a` in one metric: means over replications, joint intervals, and a verdict."""

    metric: str
    a: str
    """Letter of the scenario that is held against."""
    b: str
    verdict: Verdict
    """"real": the interval excludes no difference. "no value": unbounded, or missing, in some replication."""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    """b over a; None where both a and b are zero, or a is."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    """Both None where the mean of a cannot be told from zero."""
    correlation: float | None = None
    """Between a and b over replications: what equal seeds give. None where either does not vary."""
    more_replications: int | None = None
    """How many more would tell them apart with a chance of 0.8, were the difference as it seems; None if told."""


def differences(
    metric: str, values: Mapping[str, Sequence[float | None]], level: float = 0.95
) -> list[Difference]:
    """Return the differences of all pairs of scenarios, letter -> (replications,), earlier letters first.

    Intervals are Bonferroni's: all pairs of the metric are in theirs together with probability `level` at least.
    """
    pairs = list(combinations(values, 2))
    each = 1 - (1 - level) / max(1, len(pairs))
    return [_difference(metric, a, b, values[a], values[b], each) for a, b in pairs]


def _difference(
    metric: str, a: str, b: str, first: Sequence[float | None], second: Sequence[float | None], level: float
) -> Difference:
    known = [(x, y) for x, y in zip(first, second, strict=True) if x is not None and y is not None]
    if len(known) < len(first):
        return Difference(metric, a, b, "no value")
    x, y = np.asarray(known, dtype=np.float64).T
    gap = y - x
    if np.abs(gap).max() <= _SAME * max(np.abs(x).max(), np.abs(y).max()):
        one = None if not x.any() else 1.0
        return Difference(metric, a, b, "identical", 0.0, 0.0, 0.0, one, one, one)
    mean, half = float(gap.mean()), t_quantile(level, len(gap)) * float(gap.std(ddof=1)) / sqrt(len(gap))
    low, high = mean - half, mean + half
    real = low > 0 or high < 0
    ratio = ratio_interval(x, y, level)
    more = None if real else replications_needed(gap, level) - len(gap)
    return Difference(
        metric, a, b, "real" if real else "not told apart", mean, low, high, *ratio, _correlation(x, y), more
    )


def t_quantile(level: float, num: int) -> float:
    """Return how many standard errors Student's interval of `level` reaches either way of a mean of `num`."""
    from scipy import stats

    return float(stats.t.ppf(0.5 + level / 2, num - 1))


def ratio_interval(a: Floats, b: Floats, level: float) -> tuple[float | None, float | None, float | None]:
    """Return the ratio of the means of paired b over a, and Fieller's interval of it; (n,) each.

    It holds each r for which the paired t interval of b - r a holds 0, so it excludes 1 just where that of the
    difference excludes 0 (E. C. Fieller, "Some problems in interval estimation", JRSS B 16(2), 1954). No limits are
    given where the mean of a cannot be told from 0: the set is then unbounded.
    """
    num, mean_a, mean_b = len(a), float(a.mean()), float(b.mean())
    if mean_a == 0:
        return None, None, None
    spread = t_quantile(level, num) ** 2 / num
    (var_a, cov), (_, var_b) = np.cov(a, b, ddof=1)
    squared = mean_a**2 - spread * var_a
    middle = mean_a * mean_b - spread * cov
    rest = mean_b**2 - spread * var_b
    ratio = mean_b / mean_a
    if squared <= 0:
        return ratio, None, None
    root = sqrt(max(0.0, middle**2 - squared * rest))
    return ratio, float((middle - root) / squared), float((middle + root) / squared)


def replications_needed(gap: Floats, level: float) -> int:
    """Return how many paired differences tell their mean from 0 at `level` with a chance of POWER, were it as here.

    Normal quantiles with the small-sample term of W. C. Guenther, "Sample size formulas for normal theory t tests",
    The American Statistician 35(4), 1981.
    """
    from scipy import stats

    mean, std = abs(float(gap.mean())), float(gap.std(ddof=1))
    alpha, beta = float(stats.norm.ppf(0.5 + level / 2)), float(stats.norm.ppf(POWER))
    needed = ((alpha + beta) * std / mean) ** 2 + alpha**2 / 2 if mean else float("inf")
    return max(len(gap) + 1, ceil(needed)) if isfinite(needed) and needed < MANY else MANY


#: Stands for "so many that the two are as good as equal".
MANY = 1_000_000


def _correlation(a: Floats, b: Floats) -> float | None:
    if len(a) < 3 or a.std() <= _SAME * np.abs(a).max() or b.std() <= _SAME * np.abs(b).max():
        return None
    return float(np.corrcoef(a, b)[0, 1])
