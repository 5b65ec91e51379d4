"""A node fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from clustersim.hardware.failures import ClusterFailure, Extent, Harm, Outage
from clustersim.kinds import register


@register("failure")
class NodeFailure(ClusterFailure):
    """A node goes down: every replica with an accelerator of it dies, and what its host memory held is gone.

    Published, for nodes of eight accelerators: 419 unexpected interruptions in 54 days of Llama 3 405B on 16,384 H100
    are one in 264 days a node, whatever the cause (Llama Team, "The Llama 3 Herd of Models", 2024, table 5); 6.50 and
    2.34 failures in 1,000 node-days, one in 154 and in 427 days, in Meta's two A100 research clusters (Kokolis et al.,
    "Revisiting Reliability in Large-Scale Machine Learning Research Clusters", 2025, arXiv 2410.21680). Repairs are
    not published there; the default of 1 h is assumed.
    """

    kind: Literal["node"] = "node"
    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"at": ["10 min"]},
        {"mtbf": "264 days", "repair": "4 h"},
        {"mtbf": "154 days"},
        {"mtbf": "427 days"},
    )

    def things(self, extents: Sequence[Extent]) -> list[tuple[Harm, ...]]:
        """See Failure."""
        return [(Outage(extent.cluster, (node,), memory=True),) for extent, node in self.nodes(extents)]
