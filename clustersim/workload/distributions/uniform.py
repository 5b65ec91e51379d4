"""Equally likely values."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from clustersim.kinds import register
from clustersim.workload.arrays import FloatArray, IntArray
from clustersim.workload.distributions import Distribution


@register("distribution")
class Uniform(Distribution):
    """Any value from `low` to `high`; as a count, any integer from `low` to `high`, both included."""

    examples: ClassVar = ({"kind": "uniform", "low": 0.2, "high": 0.8},)

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("`low` must be below `high`")
        return self

    def sample(self, rng: np.random.Generator, num: int) -> FloatArray:
        """See `Distribution.sample`."""
        return rng.uniform(self.low, self.high, num)

    def sample_counts(self, rng: np.random.Generator, num: int, least: int) -> IntArray:
        """See `Distribution.sample_counts`; raises ValueError where no integer lies in between."""
        low, high = max(math.ceil(self.low), least), math.floor(self.high)
        if low > high:
            raise ValueError(f"no integer of {least} or more lies between {self.low:g} and {self.high:g}")
        return rng.integers(low, high, num, endpoint=True)

    def expectation(self) -> float:
        """See `Distribution.expectation`."""
        return (self.low + self.high) / 2

    def support(self) -> tuple[float, float]:
        """See `Distribution.support`."""
        return self.low, self.high
