"""Bursty or regular arrivals with Weibull gaps."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from clustersim.kinds import register
from clustersim.units import PerSecond
from clustersim.workload.arrays import FloatArray
from clustersim.workload.arrivals import OpenArrivals
from clustersim.workload.renewal import weibull_renewal, weibull_shape


@register("arrivals")
class Weibull(OpenArrivals):
    """Weibull-distributed gaps at a constant rate, by their coefficient of variation or their shape."""

    examples: ClassVar = (
        {"kind": "weibull", "rate": "16 req/s", "cv": 2.5},
        {"kind": "weibull", "rate": "16 req/s", "shape": 0.45},
    )

    kind: Literal["weibull"] = "weibull"
    rate_per_s: PerSecond
    cv: Annotated[float, Field(ge=0.01, le=100)] | None = None
    """Standard deviation of the gaps divided by their mean."""
    shape: Annotated[float, Field(ge=0.1, le=100)] | None = None
    """The Weibull's k: below 1 is bursty, 1 is Poisson, above 1 is regular."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.cv is None) == (self.shape is None):
            raise ValueError("weibull arrivals take either `cv` or `shape`")
        return self

    def times(
        self, rng: np.random.Generator, start_s: float, end_s: float, max_num: int | None = None
    ) -> FloatArray:
        """See `OpenArrivals.times`."""
        shape = self.shape if self.shape is not None else weibull_shape(self.cv or 1.0)
        return weibull_renewal(shape).at_rate(self.rate_per_s, rng, start_s, end_s, max_num)

    def scaled(self, factor: float) -> Self:
        """See `OpenArrivals.scaled`."""
        return self.model_copy(update={"rate_per_s": self.rate_per_s * factor})
