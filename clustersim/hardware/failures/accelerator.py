"""An accelerator fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from clustersim.hardware.failures import ClusterFailure, Extent, Harm, Outage
from clustersim.kinds import register


@register("failure")
class AcceleratorFailure(ClusterFailure):
    """An accelerator fails: the replica that has it dies, and the rest of its node goes on.

    Published: of the 419 unexpected interruptions in 54 days of Llama 3 405B on 16,384 H100, 268 were of the
    accelerator (148 GPU, 72 HBM, 19 SRAM, 17 GPU system processor, 6 silent corruption, 6 thermal): one in 79,200
    hours each (Llama Team, "The Llama 3 Herd of Models", 2024, table 5).
    """

    kind: Literal["accelerator"] = "accelerator"
    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"at": ["10 min"], "repair": "30 min"},
        {"mtbf": "79200 h", "repair": "4 h"},
    )

    def things(self, extents: Sequence[Extent]) -> list[tuple[Harm, ...]]:
        """See Failure."""
        return [
            (Outage(extent.cluster, (node,), accelerator),)
            for extent, node in self.nodes(extents)
            for accelerator in range(extent.per_node)
        ]
