"""A batch."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import PositiveInt

from clustersim.errors import InputError
from clustersim.kinds import register
from clustersim.units import Seconds
from clustersim.workload.arrays import FloatArray
from clustersim.workload.arrivals import OpenArrivals


@register("arrivals")
class AllAtOnce(OpenArrivals):
    """All requests at one instant, as offline batches and `--request-rate inf` make them."""

    examples: ClassVar = ({"kind": "all_at_once", "num": 100}, {"kind": "all_at_once", "num": 8, "at": "5 s"})

    kind: Literal["all_at_once"] = "all_at_once"
    num: PositiveInt | None = None
    """How many; without it, the workload's `num_requests`."""
    at_s: Seconds = 0.0
    """How long after the start."""

    def times(
        self,
        rng: np.random.Generator,  # noqa: ARG002 - the contract's
        start_s: float,
        end_s: float,
        max_num: int | None = None,
    ) -> FloatArray:
        """See `OpenArrivals.times`."""
        if self.num is None and max_num is None:
            raise InputError("all_at_once needs `num`, or `num_requests` on its workload")
        num = min(n for n in (self.num, max_num) if n is not None)
        return np.full(num if start_s + self.at_s < end_s else 0, start_s + self.at_s)

    def scaled(self, factor: float) -> Self:
        """See `OpenArrivals.scaled`."""
        if factor == 1:
            return self
        raise InputError("all_at_once has no rate for `rate_scale` to multiply; change `num`")
