"""Arrivals whose rate follows a daily sinusoid."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from clustersim.kinds import register
from clustersim.units import DAY_S, PerSecond, PositiveSeconds, Seconds
from clustersim.workload.arrays import FloatArray
from clustersim.workload.arrivals import Cv, OpenArrivals
from clustersim.workload.curve import Curve
from clustersim.workload.renewal import gamma_renewal

_NUM_SEGMENTS = 1440


@register("arrivals")
class Diurnal(OpenArrivals):
    """Arrivals at rate(t) = mean_rate * (1 + (peak_to_mean - 1) * cos(2 pi (t - peak_at) / period)).

    The cosine is drawn by 1440 straight segments a period: within 3e-6 of the mean rate, its mean exactly.
    """

    examples: ClassVar = (
        {"kind": "diurnal", "mean_rate": "16 req/s", "peak_to_mean": 1.8, "peak_at": "14 h"},
        {
            "kind": "diurnal",
            "mean_rate": "1 req/s",
            "peak_to_mean": 2,
            "peak_at": 0,
            "period": "1 h",
            "cv": 2,
        },
    )

    kind: Literal["diurnal"] = "diurnal"
    mean_rate_per_s: PerSecond
    peak_to_mean: Annotated[float, Field(ge=1, le=2)]
    """Highest rate divided by the mean; at 2 the lowest rate is zero."""
    peak_at_s: Seconds
    """Time of day of the peak."""
    period_s: PositiveSeconds = DAY_S
    cv: Cv = 1.0
    """Coefficient of variation of the gaps, in time measured by mean arrivals."""

    def curve(self) -> Curve:
        """Return the rate over one period."""
        edges = np.linspace(0, self.period_s, _NUM_SEGMENTS + 1)
        swing = np.cos(2 * np.pi * (edges - self.peak_at_s) / self.period_s)
        rates = self.mean_rate_per_s * np.maximum(1 + (self.peak_to_mean - 1) * swing, 0)
        return Curve(edges, rates[:-1], rates[1:], self.period_s)

    def times(
        self, rng: np.random.Generator, start_s: float, end_s: float, max_num: int | None = None
    ) -> FloatArray:
        """See `OpenArrivals.times`."""
        return self.curve().events(gamma_renewal(self.cv), rng, start_s, end_s, max_num)

    def scaled(self, factor: float) -> Self:
        """See `OpenArrivals.scaled`."""
        return self.model_copy(update={"mean_rate_per_s": self.mean_rate_per_s * factor})
