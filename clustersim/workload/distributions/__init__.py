"""Distributions of one quantity: tokens, or a share. One file a kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from clustersim.errors import InputError
from clustersim.kinds import OneOf, Part
from clustersim.workload.arrays import MAX_TOKENS, FloatArray, IntArray

#: Draws again of what is too short, before it is said that next to nothing is long enough.
_MOST_REDRAWS = 1000


class Distribution(Part):
    """A distribution of one number."""

    examples: ClassVar[tuple[dict[str, Any], ...]] = ()
    pure: ClassVar[frozenset[str]] = frozenset()
    """Settings without the unit of what is drawn."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, num: int) -> FloatArray:
        """Return `num` independent draws (num,)."""

    @abstractmethod
    def expectation(self) -> float:
        """Return the mean."""

    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Return the lowest and highest value that can be drawn; the highest may be infinite."""

    def sample_counts(self, rng: np.random.Generator, num: int, least: int) -> IntArray:
        """Return `num` draws (num,) rounded to the nearest integer; those below `least` are drawn again."""
        drawn = _whole(self.sample(rng, num))
        if self.support()[0] < least:
            for _ in range(_MOST_REDRAWS):
                if not len(low := np.flatnonzero(drawn < least)):
                    return drawn
                drawn[low] = _whole(self.sample(rng, len(low)))
            raise InputError(
                f"hardly a draw from {self.kind} ({self!r}) reaches {least} tokens; make it longer"
            )
        return drawn


def _whole(tokens: FloatArray) -> IntArray:
    """Return tokens (n,) rounded; raises InputError for lengths that no request has."""
    if len(tokens) and not tokens.max() <= MAX_TOKENS:
        raise InputError(
            f"a length of {tokens.max():g} tokens was drawn; {MAX_TOKENS:g} is the most, so give a `max`"
        )
    return np.rint(tokens).astype(np.int64)


@dataclass(frozen=True)
class NumberOr(OneOf):
    """Marks a field for a part of `family`; a bare number is shorthand for `{kind: fixed, value: ...}`."""

    def validate(self, value: object) -> Part:
        """Return the part that `value` describes."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = {"kind": "fixed", "value": value}
        return super().validate(value)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        family = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [{"type": "number"}, *family["anyOf"]]}


#: A field that says how a number is distributed: `512`, or `{kind: lognormal, median: 208, p99: 23000}`.
AnyDistribution = Annotated[Distribution, NumberOr("distribution")]


def check_reach(name: str, distribution: Distribution, low: float, high: float = np.inf) -> None:
    """Raise ValueError unless `distribution` lies within [low, high] or, without `high`, reaches `low`."""
    bottom, top = distribution.support()
    if high < np.inf and (bottom < low or top > high):
        raise ValueError(f"`{name}` spans {bottom:g} to {top:g}; it must lie between {low:g} and {high:g}")
    if bottom < 0 or top < low:
        raise ValueError(f"`{name}` spans {bottom:g} to {top:g}; at least {low:g} is needed")


def pairs(table: object) -> object:
    """Return a mapping of quantile to value, as YAML gives it, as pairs; anything else as it is."""
    return tuple(table.items()) if isinstance(table, Mapping) else table
