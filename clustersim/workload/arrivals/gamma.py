"""Bursty or regular arrivals with gamma gaps."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np

from clustersim.kinds import register
from clustersim.units import PerSecond
from clustersim.workload.arrays import FloatArray
from clustersim.workload.arrivals import Cv, OpenArrivals
from clustersim.workload.renewal import gamma_renewal


@register("arrivals")
class Gamma(OpenArrivals):
    """Gamma-distributed gaps at a constant rate; vLLM's `--burstiness` is 1 / cv**2."""

    examples: ClassVar = ({"kind": "gamma", "rate": "16 req/s", "cv": 2.5},)

    kind: Literal["gamma"] = "gamma"
    rate_per_s: PerSecond
    cv: Cv
    """Standard deviation of the gaps divided by their mean."""

    def times(
        self, rng: np.random.Generator, start_s: float, end_s: float, max_num: int | None = None
    ) -> FloatArray:
        """See `OpenArrivals.times`."""
        return gamma_renewal(self.cv).at_rate(self.rate_per_s, rng, start_s, end_s, max_num)

    def scaled(self, factor: float) -> Self:
        """See `OpenArrivals.scaled`."""
        return self.model_copy(update={"rate_per_s": self.rate_per_s * factor})
