"""Stationary renewal processes with gaps of mean 1, from which every open arrival process is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from clustersim.workload.arrays import FloatArray

Draw = Callable[[np.random.Generator, int], FloatArray]
_MAX_CHUNK = 4_000_000


@dataclass(frozen=True)
class Renewal:
    """Draws of a gap, and of the residual: the wait from an arbitrary instant to the next event.

    Starting from the residual makes the process stationary, so that the mean count in a window of length x is
    exactly x; starting from a plain gap would add (cv**2 - 1) / 2 events (Cox, Renewal Theory, 1962, ch. 4).
    The residual is a uniform share of a length-biased gap.
    """

    gaps: Draw
    residual: Draw
    cv: float

    def events(self, rng: np.random.Generator, length: float, max_num: int | None = None) -> FloatArray:
        """Return the sorted event times (n,) in [0, length), the first `max_num` of them at most.

        A longer `length` or a larger `max_num` only appends, for the same generator state.
        """
        if max_num is None and math.isinf(length):
            raise ValueError("an arrival process needs an end or a number of requests")
        chunks: list[FloatArray] = []
        last, num = 0.0, 0
        while last < length and (max_num is None or num < max_num):
            left = length - last
            wanted = _MAX_CHUNK if math.isinf(left) else left + 5 * self.cv * math.sqrt(left) + 64
            size = int(min(wanted, _MAX_CHUNK if max_num is None else max_num - num, _MAX_CHUNK))
            if chunks:
                gaps = self.gaps(rng, size)
                gaps[0] += last
            else:
                gaps = np.concatenate([self.residual(rng, 1), self.gaps(rng, size - 1)])
            times = np.cumsum(gaps)
            chunks.append(times)
            last, num = float(times[-1]), num + size
        times = np.concatenate(chunks) if chunks else np.empty(0)
        return times[: np.searchsorted(times, length)]

    def at_rate(
        self, rate_per_s: float, rng: np.random.Generator, start_s: float, end_s: float, max_num: int | None
    ) -> FloatArray:
        """Return the sorted event times (n,) in seconds in [start_s, end_s) at `rate_per_s`."""
        times = start_s + self.events(rng, (end_s - start_s) * rate_per_s, max_num) / rate_per_s
        return times[times < end_s]


def poisson_renewal() -> Renewal:
    """Return the process with exponential gaps, whose residual is exponential too."""
    return Renewal(
        gaps=lambda rng, num: rng.standard_exponential(num),
        residual=lambda rng, num: rng.standard_exponential(num),
        cv=1.0,
    )


def gamma_renewal(cv: float) -> Renewal:
    """Return the process with Gamma(1/cv**2) gaps; a length-biased Gamma(k) is Gamma(k + 1)."""
    if cv == 1:
        return poisson_renewal()
    shape = cv**-2
    return Renewal(
        gaps=lambda rng, num: rng.standard_gamma(shape, num) / shape,
        residual=lambda rng, num: rng.random(num) * rng.standard_gamma(shape + 1, num) / shape,
        cv=cv,
    )


def weibull_renewal(shape: float) -> Renewal:
    """Return the process with Weibull(shape) gaps; a length-biased one is Gamma(1 + 1/shape)**(1/shape)."""
    power = 1 / shape
    mean = math.gamma(1 + power)
    return Renewal(
        gaps=lambda rng, num: rng.standard_exponential(num) ** power / mean,
        residual=lambda rng, num: rng.random(num) * rng.standard_gamma(1 + power, num) ** power / mean,
        cv=weibull_cv(shape),
    )


def weibull_cv(shape: float) -> float:
    """Return the coefficient of variation of a Weibull: cv**2 + 1 = gamma(1 + 2/k) / gamma(1 + 1/k)**2."""
    return math.sqrt(math.expm1(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)))


@cache
def weibull_shape(cv: float) -> float:
    """Return the shape of the Weibull with this coefficient of variation, by bisection to rounding."""
    low, high = 0.05, 1000.0
    while (middle := math.sqrt(low * high)) not in (low, high) and high / low > 1 + 1e-14:
        low, high = (middle, high) if weibull_cv(middle) > cv else (low, middle)
    return middle
