"""Networks between the nodes of a cluster: what one accelerator gets out of its node. One file a topology."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, NamedTuple

from pydantic import Field

from clustersim.hardware.figure import Evidence
from clustersim.hardware.node import Node
from clustersim.kinds import Part
from clustersim.units import BytesPerSecond, Seconds


class Path(NamedTuple):
    """What one accelerator gets between nodes, per direction: bandwidth, latency of a message, and its launch."""

    bandwidth_bytes_per_s: float
    latency_s: float
    launch_s: float
    evidence: Evidence
    source: str


class Network(Part):
    """Base of the networks."""

    nic_bytes_per_s: BytesPerSecond | None = None
    """Bandwidth of one accelerator's share of the node's ports; the node's own if not given."""
    hop_latency_s: Seconds = 0.3e-6
    """Of one switch, assumed: InfiniBand 0.13 to 0.23 us, Ethernet 0.4 to 0.8 us."""

    @abstractmethod
    def num_hops(self, num_nodes: int) -> int:
        """Return the switches that a message between two nodes passes in the worst case."""

    @abstractmethod
    def share_frac(self) -> float:
        """Return the share of the port bandwidth that is left when every accelerator sends at once."""

    def nodes_per_leaf(self, num_nodes: int) -> int:  # noqa: ARG002
        """Return how many neighbours in `num_nodes` nodes reach each other without passing the spine."""
        return 1

    def path(self, node: Node, num_nodes: int) -> Path:
        """Return what one accelerator of `node` gets towards the others of `num_nodes` nodes."""
        nic = node.nic
        own = self.nic_bytes_per_s is None
        bandwidth = node.nic_bytes_per_s if self.nic_bytes_per_s is None else self.nic_bytes_per_s
        return Path(
            bandwidth * self.share_frac(),
            nic.latency_s.value + self.num_hops(num_nodes) * self.hop_latency_s,
            nic.launch_s.value,
            nic.bandwidth_bytes_per_s.evidence if own else "assumed",
            f"{nic.name}: {nic.bandwidth_bytes_per_s.source}" if own else "given by the user",
        )


Oversubscription = Annotated[float, Field(ge=1.0)]
