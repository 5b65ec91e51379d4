"""The network ports of a node fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from clustersim.hardware.failures import ClusterFailure, Extent, Harm, Share, Weakening
from clustersim.kinds import register


@register("failure")
class LinkFailure(ClusterFailure):
    """The ports of a node towards others keep a share of their bandwidth; transfers slow down, at 0 they wait.

    At 0, replicas that span nodes with this one die, and none starts there before the repair. A replica on one node
    goes on: its requests come over another network. Collectives of replicas that span nodes are not slowed down by what
    is left above 0.

    Published: of the 419 unexpected interruptions in 54 days of Llama 3 405B on 16,384 H100, 35 were switches and
    cables and 7 network cards: one in 505,600 hours an accelerator, 63,200 h a node of eight ports (Llama Team, "The
    Llama 3 Herd of Models", 2024, table 5).
    """

    kind: Literal["link"] = "link"
    left_frac: Share = 0.0
    """Share of the bandwidth that is left; 0.875 for one dead port of eight."""
    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"at": ["10 min"], "repair": "2 min"},
        {"mtbf": "63200 h", "left_frac": 0.875},
    )

    def things(self, extents: Sequence[Extent]) -> list[tuple[Harm, ...]]:
        """See Failure."""
        return [(Weakening(self.left_frac, (extent.cluster, node)),) for extent, node in self.nodes(extents)]
