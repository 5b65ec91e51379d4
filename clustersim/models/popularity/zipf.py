"""Zipf's law of popularity."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.models.popularity import Popularity, Shares, most_popular


@register("expert_popularity")
class Zipf(Popularity):
    """The i-th most popular expert is chosen in proportion to i^-exponent; 0 is even."""

    kind: Literal["zipf"] = "zipf"
    exponent: Annotated[float, Field(ge=0, le=10)]
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"exponent": 0.0}, {"exponent": 0.6})

    def shares(self, num_experts: int, top_k: int) -> Shares:
        """See Popularity."""
        return most_popular([rank**-self.exponent for rank in range(1, num_experts + 1)], top_k)
