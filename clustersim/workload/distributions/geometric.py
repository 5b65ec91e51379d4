"""Counts of things that go on with the same chance each time."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from clustersim.kinds import register
from clustersim.workload.arrays import FloatArray
from clustersim.workload.distributions import Distribution


@register("distribution")
class Geometric(Distribution):
    """1, 2, 3, ... each 1 - 1/mean times as likely as the one before: goes on with the same chance every time.

    `mean` is that before truncation. With `max` it is the distribution of draws repeated until one is no larger.
    """

    examples: ClassVar = ({"kind": "geometric", "mean": 3.5}, {"kind": "geometric", "mean": 4, "max": 6})

    kind: Literal["geometric"] = "geometric"
    mean: Annotated[float, Field(ge=1)]
    max: PositiveInt | None = None
    """Draw again above this."""

    def sample(self, rng: np.random.Generator, num: int) -> FloatArray:
        """See `Distribution.sample`; the inverse of the truncated distribution function, one uniform a draw."""
        uniform = rng.random(num)
        if self.mean == 1:
            return np.ones(num)
        on = 1 - 1 / self.mean
        within = 1.0 if self.max is None else 1 - on**self.max
        drawn: FloatArray = 1 + np.floor(np.log1p(-uniform * within) / math.log(on))
        return drawn if self.max is None else np.minimum(drawn, self.max)  # against rounding alone

    def expectation(self) -> float:
        """See `Distribution.expectation`; the truncated geometric's: mean - max on**max / (1 - on**max)."""
        if self.max is None or self.mean == 1:
            return self.mean
        left = (1 - 1 / self.mean) ** self.max
        return self.mean - self.max * left / (1 - left)

    def support(self) -> tuple[float, float]:
        """See `Distribution.support`."""
        return 1, math.inf if self.max is None else self.max
