"""Arrivals whose rate follows a given curve."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from clustersim.kinds import Value, register
from clustersim.units import PositiveSeconds, Seconds
from clustersim.workload.arrays import FloatArray
from clustersim.workload.arrivals import Cv, OpenArrivals, Rate
from clustersim.workload.curve import Curve
from clustersim.workload.renewal import gamma_renewal


class Bins(Value):
    """A rate that is constant within bins of one width, the first of which begins at 0."""

    width_s: PositiveSeconds
    rates: tuple[Rate, ...] | None = None
    """The rate in each bin."""
    counts: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Or the mean number of requests in each bin."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.rates is None) == (self.counts is None):
            raise ValueError("bins take either `rates` or `counts`")
        return self

    def rates_per_s(self) -> FloatArray:
        """Return the rate (n,) of each bin in requests a second."""
        return np.asarray(
            self.rates if self.rates is not None else np.asarray(self.counts) / self.width_s, dtype=np.float64
        )


@register("arrivals")
class RateCurve(OpenArrivals):
    """Arrivals at a rate that varies with the time of day, linear between `points` or constant within `bins`.

    A stationary unit-rate renewal process with gamma gaps is carried through the inverse of the cumulative
    rate, so that the mean count in any window is exactly the area under the curve. The clock begins at the
    workload's `start`.
    """

    examples: ClassVar = (
        {"kind": "rate_curve", "points": [["0 h", "4 req/s"], ["12 h", "20 req/s"]], "period": "24 h"},
        {"kind": "rate_curve", "bins": {"width": "12 h", "rates": ["4 req/s", "20 req/s"]}, "cv": 2},
        {"kind": "rate_curve", "bins": {"width": "10 min", "counts": [51, 234]}, "period": "20 min"},
    )

    kind: Literal["rate_curve"] = "rate_curve"
    points: tuple[tuple[Seconds, Rate], ...] | None = None
    """Pairs of time and rate."""
    bins: Bins | None = None
    cv: Cv = 1.0
    """Coefficient of variation of the gaps, in time measured by mean arrivals."""
    period_s: PositiveSeconds | None = None
    """Repeat the curve with this period; without it, simulating past its end is refused."""

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        if (self.points is None) == (self.bins is None):
            raise ValueError("a rate curve takes either `points` or `bins`")
        curve = self.curve()
        if (np.diff(curve.edges_s) <= 0).any() or len(curve.edges_s) < 2:
            raise ValueError("a rate curve takes times that increase, two points or one bin at least")
        if curve.left.sum() + curve.right.sum() == 0:
            raise ValueError("this rate curve is zero throughout: it makes no request")
        if self.period_s is not None and abs(curve.edges_s[-1] - curve.edges_s[0] - self.period_s) > 1e-6:
            raise ValueError("the bins together must be as long as `period`, and points must lie within one")
        return self

    def curve(self) -> Curve:
        """Return the rate over time; with a period, points are joined from the last round to the first."""
        if self.bins is not None:
            rates = self.bins.rates_per_s()
            return Curve(
                np.arange(len(rates) + 1, dtype=np.float64) * self.bins.width_s, rates, rates, self.period_s
            )
        times, rates = np.asarray(self.points, dtype=np.float64).reshape(-1, 2).T
        if self.period_s is not None and len(times) and times[-1] < times[0] + self.period_s:
            times = np.concatenate([times, [times[0] + self.period_s]])
            rates = np.concatenate([rates, [rates[0]]])
        return Curve(times, rates[:-1], rates[1:], self.period_s)

    def times(
        self, rng: np.random.Generator, start_s: float, end_s: float, max_num: int | None = None
    ) -> FloatArray:
        """See `OpenArrivals.times`; raises InputError where the curve does not cover the time asked for."""
        return self.curve().events(gamma_renewal(self.cv), rng, start_s, end_s, max_num)

    def scaled(self, factor: float) -> Self:
        """See `OpenArrivals.scaled`."""
        if self.points is not None:
            return self.model_copy(update={"points": tuple((t, rate * factor) for t, rate in self.points)})
        assert self.bins is not None
        name = "rates" if self.bins.rates is not None else "counts"
        scaled = tuple(rate * factor for rate in self.bins.rates or self.bins.counts or ())
        return self.model_copy(update={"bins": self.bins.model_copy(update={name: scaled})})
