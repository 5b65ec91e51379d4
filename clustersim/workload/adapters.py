"""LoRA adapters: which fine-tune of the model each request asks for."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from clustersim.kinds import Value
from clustersim.workload.arrays import IntArray
from clustersim.workload.popularity import Exponent, Weights, pick, problem_with, shares_of

#: No adapter: the model itself.
NONE = -1


class Adapters(Value):
    """LoRA adapters of one model, some asked for more often than others."""

    num_adapters: PositiveInt
    zipf_exponent: Exponent | None = None
    """The k-th most popular adapter is asked for k**-exponent as often as the first; 1 if not given, 0 for all alike.
    Assumed: no production statistics found."""
    weights: Weights | None = None
    """How often each is asked for, in place of Zipf's law."""
    base_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the requests that ask for the model itself."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problem = problem_with(self.num_adapters, "adapters", self.zipf_exponent, self.weights)
        if problem is not None:
            raise ValueError(f"`adapters` {problem}")
        return self

    def draw(self, rng: np.random.Generator, num: int) -> IntArray:
        """Return the adapters (num,) of the next requests, from 0, -1 for the model itself; one random number each."""
        uniform = rng.random(num)
        shares = shares_of(self.num_adapters, self.zipf_exponent, self.weights, 1.0)
        chosen = pick(shares, (uniform - self.base_share) / (1 - self.base_share))
        return np.where(uniform < self.base_share, NONE, chosen)
