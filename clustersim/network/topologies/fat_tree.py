"""Fat tree (folded Clos)."""

from __future__ import annotations

from math import ceil, log
from typing import ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.network.topologies import Network, Oversubscription


@register("network")
class FatTree(Network):
    """A folded Clos of switches with `radix` ports: L levels join 2 (radix/2)^L nodes; a message climbs and descends.

    Source: Al-Fares et al., SIGCOMM 2008, section 2.2.
    """

    kind: Literal["fat_tree"] = "fat_tree"
    radix: int = Field(64, ge=4)
    oversubscription: Oversubscription = 1.0
    """Bandwidth into the leaves over bandwidth out of them."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"radix": 32, "oversubscription": 3.0})

    def num_hops(self, num_nodes: int) -> int:
        """See Network."""
        if num_nodes <= self.radix:
            return 1
        return 2 * ceil(log(num_nodes / 2, self.radix / 2)) - 1

    def share_frac(self) -> float:
        """See Network."""
        return 1.0 / self.oversubscription

    def nodes_per_leaf(self, num_nodes: int) -> int:
        """See Network: a leaf's ports go down and up as the oversubscription says."""
        if num_nodes <= self.radix:
            return num_nodes
        return max(1, int(self.radix * self.oversubscription / (1 + self.oversubscription)))
