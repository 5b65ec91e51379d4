"""Heavy-tailed values."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from clustersim.kinds import register
from clustersim.workload.arrays import FloatArray
from clustersim.workload.distributions import Distribution

_Positive = Annotated[float, Field(gt=0)]
#: Standard normal quantiles.
_Z90, _Z99 = 1.2815515655446004, 2.3263478740408408


@register("distribution")
class Lognormal(Distribution):
    """exp(Normal(mu, sigma)), placed by `median` or `mean` and spread by `sigma`, `cv`, `p90` or `p99`.

    These describe it before truncation. With `min` or `max` it is the distribution of draws repeated until
    one lies between them; nothing is clamped.
    """

    examples: ClassVar = (
        {"kind": "lognormal", "median": 208, "p99": 23400, "min": 1, "max": 57000},
        {"kind": "lognormal", "mean": 1500, "cv": 1.2},
        {"kind": "lognormal", "mean": 1500, "p90": 3400},
        {"kind": "lognormal", "median": 800, "sigma": 1.0},
    )

    pure: ClassVar = frozenset({"sigma", "cv"})

    kind: Literal["lognormal"] = "lognormal"
    median: _Positive | None = None
    """exp(mu)."""
    mean: _Positive | None = None
    """exp(mu + sigma**2 / 2)."""
    sigma: _Positive | None = None
    """Standard deviation of the logarithm."""
    cv: _Positive | None = None
    """Standard deviation divided by mean."""
    p90: _Positive | None = None
    """The 90th percentile."""
    p99: _Positive | None = None
    """The 99th percentile."""
    min: Annotated[float, Field(ge=0)] = 0.0
    """Draw again below this."""
    max: _Positive | None = None
    """Draw again above this."""

    @model_validator(mode="after")
    def _determined(self) -> Self:
        if (self.median is None) == (self.mean is None):
            raise ValueError("a lognormal is placed by either `median` or `mean`")
        if sum(value is not None for value in (self.sigma, self.cv, self.p90, self.p99)) != 1:
            raise ValueError("a lognormal is spread by one of `sigma`, `cv`, `p90`, `p99`")
        low, high = self._bounds()
        if high - low < 1e-9:
            raise ValueError("`min` and `max` leave next to nothing of this lognormal")
        return self

    def parameters(self) -> tuple[float, float]:
        """Return (mu, sigma) of the logarithm.

        From a mean and a percentile p of normal quantile z: the lesser root of
        sigma**2 / 2 - z sigma + log(p / mean) = 0.
        """
        sigma = self.sigma
        if self.cv is not None:
            sigma = math.sqrt(math.log1p(self.cv**2))
        if sigma is None:
            z, percentile = (_Z90, self.p90) if self.p90 is not None else (_Z99, self.p99 or 0.0)
            place = self.median or self.mean or 0.0
            distance = math.log(percentile / place)
            if distance <= 0:
                raise ValueError(f"the percentile {percentile:g} must lie above {place:g}")
            sigma = distance / z
            if self.median is None:
                if 2 * distance > z**2:
                    raise ValueError(f"no lognormal of mean {place:g} has a percentile of {percentile:g}")
                sigma = z - math.sqrt(z**2 - 2 * distance)
        mu = math.log(self.median) if self.median else math.log(self.mean or 1.0) - sigma**2 / 2
        return mu, sigma

    def _bounds(self, shift: float = 0.0) -> tuple[float, float]:
        """Return the probabilities below `min` and `max` when the logarithm is moved up by `shift` sigmas."""
        from scipy.special import ndtr

        mu, sigma = self.parameters()
        low = float(ndtr((math.log(self.min) - mu) / sigma - shift)) if self.min > 0 else 0.0
        high = float(ndtr((math.log(self.max) - mu) / sigma - shift)) if self.max is not None else 1.0
        return low, high

    def sample(self, rng: np.random.Generator, num: int) -> FloatArray:
        """See `Distribution.sample`; the inverse of the truncated distribution function."""
        from scipy.special import ndtri

        mu, sigma = self.parameters()
        if self.min == 0 and self.max is None:
            return rng.lognormal(mu, sigma, num)
        low, high = self._bounds()
        drawn = np.exp(mu + sigma * ndtri(low + (high - low) * rng.random(num)))
        return np.clip(drawn, self.min, self.max)  # against rounding in the inverse alone

    def expectation(self) -> float:
        """See `Distribution.expectation`; the truncated lognormal's, in closed form."""
        mu, sigma = self.parameters()
        below, above = self._bounds(shift=sigma)
        low, high = self._bounds()
        return math.exp(mu + sigma**2 / 2) * (above - below) / (high - low)

    def support(self) -> tuple[float, float]:
        """See `Distribution.support`."""
        return self.min, math.inf if self.max is None else self.max
