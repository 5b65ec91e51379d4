"""How often each of several things is asked for: by given weights, or by Zipf's law."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from clustersim.workload.arrays import FloatArray, IntArray

Exponent = Annotated[float, Field(ge=0)]
Weights = tuple[Annotated[float, Field(gt=0)], ...]


def zipf(num: int, exponent: float) -> FloatArray:
    """Return the shares (num,) of num things where the k-th most popular is k**-exponent as popular as the first."""
    weights: FloatArray = np.arange(1, num + 1, dtype=np.float64) ** -exponent
    shares: FloatArray = weights / weights.sum()
    return shares


def shares_of(num: int, exponent: float | None, weights: Weights | None, default: float) -> FloatArray:
    """Return shares (num,) by `weights`, or by Zipf's law with `exponent`, `default` without either."""
    if weights is None:
        return zipf(num, default if exponent is None else exponent)
    shares: FloatArray = np.asarray(weights, dtype=np.float64) / sum(weights)
    return shares


def problem_with(num: int, name: str, exponent: float | None, weights: Weights | None) -> str | None:
    """Return what is wrong with how popularity is given, None where nothing is."""
    if weights is not None and exponent is not None:
        return "has both `weights` and `zipf_exponent`; give it one of them"
    if weights is not None and len(weights) != num:
        return f"has {len(weights)} `weights` for {num} {name}"
    return None


def pick(shares: FloatArray, uniform: FloatArray) -> IntArray:
    """Return the things (n,) at uniform numbers (n,) in [0, 1), one number each."""
    reached = np.cumsum(shares)[:-1]
    return np.searchsorted(reached, uniform, side="right").astype(np.int64)
