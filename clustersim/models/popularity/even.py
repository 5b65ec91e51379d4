"""Even popularity."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.models.popularity import Popularity, Shares


@register("expert_popularity")
class Even(Popularity):
    """All experts are as popular as each other: what a load-balancing loss or bias aims at."""

    kind: Literal["even"] = "even"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def shares(self, num_experts: int, top_k: int) -> Shares:
        """See Popularity."""
        del top_k
        return (1.0 / num_experts,) * num_experts
