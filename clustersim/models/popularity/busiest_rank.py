"""Popularity from the measured load of the busiest rank."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.errors import InputError
from clustersim.kinds import register
from clustersim.models.placement import scattered
from clustersim.models.popularity import Popularity, Shares
from clustersim.models.popularity.zipf import Zipf

_STEEPEST = 10.0


@register("expert_popularity")
class BusiestRank(Popularity):
    """A Zipf law as steep as makes the busiest of `ranks` ranks `ratio` times as loaded as their mean.

    Without redundant experts and over many tokens: what engines report as imbalance, or 1 / "balancedness".
    """

    kind: Literal["busiest_rank"] = "busiest_rank"
    ratio: Annotated[float, Field(ge=1)]
    ranks: Annotated[int, Field(ge=2)]
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"ratio": 1.25, "ranks": 4},)

    def shares(self, num_experts: int, top_k: int) -> Shares:
        """See Popularity."""
        if num_experts % self.ranks:
            raise InputError(f"{self.ranks} ranks do not divide the {num_experts} experts of a layer")
        return _shares(self.ratio, self.ranks, num_experts, top_k)


@lru_cache(maxsize=64)
def _shares(ratio: float, ranks: int, num_experts: int, top_k: int) -> Shares:
    low, high = 0.0, _STEEPEST
    steepest = scattered(Zipf(exponent=high).shares(num_experts, top_k), ranks)
    if ratio > steepest:
        raise InputError(
            f"the busiest of {ranks} ranks cannot have {ratio:g} times the mean load: {num_experts} experts of which a "
            f"token uses {top_k} give {steepest:.2f} at most"
        )
    for _ in range(50):
        middle = (low + high) / 2
        under = scattered(Zipf(exponent=middle).shares(num_experts, top_k), ranks) < ratio
        low, high = (middle, high) if under else (low, middle)
    return Zipf(exponent=high).shares(num_experts, top_k)
