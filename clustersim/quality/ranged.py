"""A ranged figure: what a quantity is, between which values it may lie, and how that is known."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import numpy as np
from pydantic import model_validator
from pydantic_core import PydanticCustomError

from clustersim.kinds import Value
from clustersim.records import Floats

#: How a number is known, best first; the words of `hardware_specs/`.
Evidence = Literal["measured", "fitted", "datasheet", "published", "assumed"]


T = TypeVar("T", bound=float)


class Ranged(Value, Generic[T]):
    """A figure with the range in which it may lie; for uncertainty it is drawn from a triangle over the range."""

    value: T
    low: T
    high: T
    evidence: Evidence
    source: str
    date: str

    @model_validator(mode="after")
    def _ordered(self) -> Ranged[T]:
        if not self.low <= self.value <= self.high:
            raise PydanticCustomError("ranged", "the value must lie between low and high")
        return self

    def draw(self, rng: np.random.Generator, num: int) -> Floats:
        """Return `num` draws, (num,): triangular over [low, high] with its mode at the value."""
        if self.low == self.high:
            return np.full(num, self.value)
        return rng.triangular(self.low, self.value, self.high, num)
