"""Memoryless arrivals."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np

from clustersim.kinds import register
from clustersim.units import PerSecond
from clustersim.workload.arrays import FloatArray
from clustersim.workload.arrivals import OpenArrivals
from clustersim.workload.renewal import poisson_renewal


@register("arrivals")
class Poisson(OpenArrivals):
    """Independent arrivals at a constant rate: exponential gaps, coefficient of variation 1."""

    examples: ClassVar = ({"kind": "poisson", "rate": "16 req/s"},)

    kind: Literal["poisson"] = "poisson"
    rate_per_s: PerSecond

    def times(
        self, rng: np.random.Generator, start_s: float, end_s: float, max_num: int | None = None
    ) -> FloatArray:
        """See `OpenArrivals.times`."""
        return poisson_renewal().at_rate(self.rate_per_s, rng, start_s, end_s, max_num)

    def scaled(self, factor: float) -> Self:
        """See `OpenArrivals.scaled`."""
        return self.model_copy(update={"rate_per_s": self.rate_per_s * factor})
