"""A rate that varies with time, and the exact inverse of its integral."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clustersim.errors import InputError
from clustersim.units import duration
from clustersim.workload.arrays import FloatArray
from clustersim.workload.renewal import Renewal


@dataclass(frozen=True)
class Curve:
    """A rate (1/s) that is linear within each of n adjoining segments.

    `edges_s` (n + 1,) are their bounds, `left` and `right` (n,) the rates at both ends of each. With
    `period_s` the curve covers one period from `edges_s[0]` and repeats for ever, before and after.
    """

    edges_s: FloatArray
    left: FloatArray
    right: FloatArray
    period_s: float | None = None

    def _sums(self) -> FloatArray:
        areas = np.diff(self.edges_s) * (self.left + self.right) / 2
        return np.concatenate([[0.0], np.cumsum(areas)])

    def expected(self, time_s: float) -> float:
        """Return the mean number of arrivals from the first edge to `time_s` (the integral of the rate)."""
        sums = self._sums()
        cycles, place = 0.0, time_s
        if self.period_s is not None:
            if math.isinf(time_s):
                return math.inf
            cycles, rest = divmod(time_s - float(self.edges_s[0]), self.period_s)
            place = float(self.edges_s[0]) + rest
        place = float(np.clip(place, self.edges_s[0], self.edges_s[-1]))
        index = min(int(np.searchsorted(self.edges_s, place, side="right")) - 1, len(self.left) - 1)
        width = self.edges_s[index + 1] - self.edges_s[index]
        offset = place - self.edges_s[index]
        slope = (self.right[index] - self.left[index]) / width
        return float(cycles * sums[-1] + sums[index] + offset * (self.left[index] + slope * offset / 2))

    def time_of(self, expected: FloatArray) -> FloatArray:
        """Return the times (n,) at which the integral of the rate reaches `expected` (n,).

        Within a segment the integral is a quadratic in time; its root is taken in the form without
        cancellation.
        """
        sums = self._sums()
        cycles: FloatArray = np.zeros(len(expected))
        if self.period_s is not None:
            cycles, expected = np.divmod(expected, sums[-1])
        index = np.clip(np.searchsorted(sums, expected, side="right") - 1, 0, len(self.left) - 1)
        area = expected - sums[index]
        width = np.diff(self.edges_s)
        slope = ((self.right - self.left) / width)[index]
        left = self.left[index]
        denominator = left + np.sqrt(np.maximum(left**2 + 2 * slope * area, 0))
        offset = np.divide(2 * area, denominator, out=np.zeros(len(area)), where=denominator > 0)
        times: FloatArray = self.edges_s[index] + np.minimum(offset, width[index])
        return times if self.period_s is None else times + cycles * self.period_s

    def events(
        self, process: Renewal, rng: np.random.Generator, start_s: float, end_s: float, max_num: int | None
    ) -> FloatArray:
        """Return sorted times (n,) in [start_s, end_s): unit-rate events, time-rescaled to follow this curve.

        Raises InputError where a curve without period does not cover the time asked for.
        """
        first, last = float(self.edges_s[0]), float(self.edges_s[-1])
        if self.period_s is None:
            if start_s < first or (end_s > last and math.isfinite(end_s)):
                covered, asked = (
                    f"{duration(a)} to {duration(b)}" for a, b in ((first, last), (start_s, end_s))
                )
                raise InputError(
                    f"the rate curve covers {covered}, but {asked} is simulated; "
                    f"extend it, or repeat it with `period: {duration(last - first)}`"
                )
            end_s = min(end_s, last)
        begin = self.expected(start_s)
        times = self.time_of(begin + process.events(rng, self.expected(end_s) - begin, max_num))
        return times[(times >= start_s) & (times < end_s)]
