"""Evenly spaced arrivals."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import numpy as np

from clustersim.kinds import register
from clustersim.units import PerSecond
from clustersim.workload.arrays import FloatArray
from clustersim.workload.arrivals import OpenArrivals


@register("arrivals")
class Deterministic(OpenArrivals):
    """One request every 1 / rate seconds, the first at the start."""

    examples: ClassVar = ({"kind": "deterministic", "rate": "16 req/s"},)

    kind: Literal["deterministic"] = "deterministic"
    rate_per_s: PerSecond

    def times(
        self,
        rng: np.random.Generator,  # noqa: ARG002 - the contract's
        start_s: float,
        end_s: float,
        max_num: int | None = None,
    ) -> FloatArray:
        """See `OpenArrivals.times`."""
        fitting = (end_s - start_s) * self.rate_per_s
        nums = [
            num for num in (max_num, None if math.isinf(fitting) else math.ceil(fitting)) if num is not None
        ]
        if not nums:
            raise ValueError("an arrival process needs an end or a number of requests")
        times = start_s + np.arange(max(min(nums), 0)) / self.rate_per_s
        return times[times < end_s]

    def scaled(self, factor: float) -> Self:
        """See `OpenArrivals.scaled`."""
        return self.model_copy(update={"rate_per_s": self.rate_per_s * factor})
