"""Popularity as counted on a running engine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from clustersim.errors import InputError
from clustersim.kinds import register
from clustersim.models.popularity import Popularity, Shares


@register("expert_popularity")
class Counted(Popularity):
    """Tokens that each expert of a layer got, in any order and unit, as an engine's expert statistics give them."""

    kind: Literal["counted"] = "counted"
    counts: tuple[Annotated[float, Field(ge=0)], ...]
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"counts": [3, 1, 2, 2, 2, 2, 0, 2]},)

    @model_validator(mode="after")
    def _some(self) -> Counted:
        if sum(self.counts) <= 0:
            raise PydanticCustomError("counts", "counts must not all be 0")
        return self

    def shares(self, num_experts: int, top_k: int) -> Shares:
        """See Popularity."""
        if len(self.counts) != num_experts:
            raise InputError(
                f"{len(self.counts)} counts, but a layer has {num_experts} experts; give one each"
            )
        total = sum(self.counts)
        shares = tuple(sorted((count / total for count in self.counts), reverse=True))
        if shares[0] > (1 + 1e-9) / top_k:
            raise InputError(
                f"one expert has {shares[0]:.1%} of the counts, but with {top_k} experts a token none can have more "
                f"than {1 / top_k:.1%}; give the counts of one layer"
            )
        return shares
