"""Rail-optimised network."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.network.topologies import Network, Oversubscription


@register("network")
class RailOptimised(Network):
    """The i-th accelerator of every node hangs on the i-th leaf switch, so traffic between equal ranks takes one hop.

    Beyond `nodes_per_rail` nodes it passes a spine: three hops. Source: NVIDIA DGX SuperPOD reference architecture.
    """

    kind: Literal["rail_optimised"] = "rail_optimised"
    nodes_per_rail: int = Field(32, ge=1)
    oversubscription: Oversubscription = 1.0
    """Leaf ports down to nodes over ports up to the spine."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"nic": "400 Gb/s", "oversubscription": 2.0})

    def num_hops(self, num_nodes: int) -> int:
        """See Network."""
        return 1 if num_nodes <= self.nodes_per_rail else 3

    def share_frac(self) -> float:
        """See Network."""
        return 1.0 / self.oversubscription

    def nodes_per_leaf(self, num_nodes: int) -> int:  # noqa: ARG002
        """See Network."""
        return self.nodes_per_rail
