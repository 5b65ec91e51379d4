"""One value."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from clustersim.kinds import register
from clustersim.workload.arrays import FloatArray
from clustersim.workload.distributions import Distribution


@register("distribution")
class Fixed(Distribution):
    """Always the same value; a bare number in YAML means this."""

    examples: ClassVar = ({"kind": "fixed", "value": 512},)

    kind: Literal["fixed"] = "fixed"
    value: float

    def sample(self, rng: np.random.Generator, num: int) -> FloatArray:  # noqa: ARG002 - the contract's
        """See `Distribution.sample`."""
        return np.full(num, self.value)

    def expectation(self) -> float:
        """See `Distribution.expectation`."""
        return self.value

    def support(self) -> tuple[float, float]:
        """See `Distribution.support`."""
        return self.value, self.value
