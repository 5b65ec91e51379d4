"""Requests that are all alike."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from clustersim.kinds import register
from clustersim.workload.lengths import Lengths, SampledLengths


@register("lengths")
class FixedLengths(SampledLengths):
    """Every request with the same lengths."""

    examples: ClassVar = ({"kind": "fixed", "input": 1024, "thinking": 4096, "answer": 512},)

    kind: Literal["fixed"] = "fixed"
    input: PositiveInt
    thinking: NonNegativeInt = 0
    answer: PositiveInt

    def sample(self, rng: np.random.Generator, num: int) -> Lengths:  # noqa: ARG002 - the contract's
        """See `SampledLengths.sample`."""
        return Lengths(*(np.full(num, tokens) for tokens in (self.input, self.thinking, self.answer)))
