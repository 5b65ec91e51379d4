"""A node fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from clustersim.hardware.failures import Extent, Failure, Outage
from clustersim.kinds import register


@register("failure")
class NodeFailure(Failure):
    """A node goes down: every replica with an accelerator of it dies."""

    kind: Literal["node"] = "node"
    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"at": ["10 min"]},
        {"mtbf": "1 year", "repair": "4 h"},
    )

    def things(self, extents: Sequence[Extent]) -> list[tuple[Outage, ...]]:
        """See Failure."""
        return [(Outage(extent.cluster, (node,)),) for extent in extents for node in range(extent.num_nodes)]
