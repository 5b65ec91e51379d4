"""Recorded arrivals."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.workload.arrays import FloatArray
from clustersim.workload.arrivals import Arrivals


@register("arrivals")
class TraceArrivals(Arrivals):
    """The arrival times of the workload's trace."""

    examples: ClassVar = ({"kind": "trace"}, {"kind": "trace", "speedup": 2})

    kind: Literal["trace"] = "trace"
    speedup: Annotated[float, Field(gt=0)] = 1.0
    """Replay so many times faster: gaps are divided by it."""

    def replay(self, recorded_s: FloatArray, rate_scale: float = 1.0) -> FloatArray:
        """Return the times (n,) at which requests recorded at `recorded_s` (n,) come."""
        return recorded_s / (self.speedup * rate_scale)
