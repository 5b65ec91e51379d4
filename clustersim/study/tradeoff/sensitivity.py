"""Which uncertain input moves the answer most: first-order shares of variance, from the draws that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from clustersim.records import Floats

_BINS = 10


@dataclass(frozen=True)
class Driver:
    """An input and how far it decides between the policies."""

    name: str
    share: float
    """Var(E[Y | input]) / Var(Y), Y the rank of the cost ratio: what knowing the input would explain of the doubt."""
    cheaper_low: float
    """P(second policy is cheaper) where the input is in the lowest third of its draws."""
    cheaper_high: float
    """The same for its highest third."""


def drivers(inputs: Mapping[str, Floats], ratio: Floats) -> list[Driver]:
    """Return the inputs, each (draws,), by their share in the doubt about a cost ratio (draws,), largest first.

    Infinite ratios (one policy alone can reach the target) count as the largest or smallest; nan (neither) are left
    out.
    """
    known = ~np.isnan(ratio)
    rank = rankdata(ratio[known])
    found = []
    for name, values in inputs.items():
        x = values[known]
        low, high = np.quantile(x, [1 / 3, 2 / 3]) if len(x) else (0.0, 0.0)
        cheaper = ratio[known] < 1
        found.append(
            Driver(name, correlation_ratio(x, rank), _mean(cheaper[x <= low]), _mean(cheaper[x >= high]))
        )
    return sorted(found, key=lambda each: -each.share)


def correlation_ratio(x: Floats, y: Floats) -> float:
    """Return Var(E[y|x]) / Var(y), estimated over bins of equal counts of x and freed of its bias (Kelley's epsilon).

    At least 0. Sources: Pearson 1905; Kelley, PNAS 21 (1935): 1 - (within / (n - bins)) / (total / (n - 1)).
    """
    num = len(y)
    bins = min(_BINS, num // 5)
    if bins < 2 or np.ptp(y) == 0:
        return 0.0
    groups = np.array_split(y[np.argsort(x, kind="stable")], bins)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    total = float(((y - y.mean()) ** 2).sum())
    return max(0.0, 1.0 - (within / (num - bins)) / (total / (num - 1)))


def _mean(values: NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
