"""Arrival processes: when requests come. One file a kind."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from clustersim.kinds import Part
from clustersim.units import Quantity
from clustersim.workload.arrays import FloatArray

#: A rate that may be zero, as a curve's may be for a while.
Rate = Annotated[float, Quantity("1/s", "16 req/s")]
#: Coefficient of variation of the gaps between arrivals; 1 is a Poisson process, above 1 is bursty.
Cv = Annotated[float, Field(gt=0, le=100)]


class Arrivals(Part):
    """When the requests of a workload come."""

    examples: ClassVar[tuple[dict[str, Any], ...]] = ()


class OpenArrivals(Arrivals):
    """Arrivals that do not depend on how fast requests are served."""

    @abstractmethod
    def times(
        self, rng: np.random.Generator, start_s: float, end_s: float, max_num: int | None = None
    ) -> FloatArray:
        """Return the sorted arrival times (n,) in seconds in [start_s, end_s), the first `max_num` at most.

        `end_s` may be infinite where `max_num` is given. For the same generator state, a later end or a
        larger `max_num` only appends.
        """

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the same process with `factor` times the rate; raises InputError where there is no rate."""
