"""A link: what one device gets from one fabric, per direction.

A message of n bytes takes launch + hops x latency + n / bandwidth; a collective of k steps pays its launch
once and the latency k times (the alpha-beta form of NCCL's tuning model, NVIDIA/nccl src/graph/tuning.cc).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from clustersim.hardware.figure import Figure
from clustersim.hardware.reference import Ref, load
from clustersim.kinds import Value
from clustersim.units import BytesPerSecond, Seconds


class Link(Value):
    """A fabric seen from one device: bandwidth is per device (or per port) and per direction."""

    name: str
    kind: Literal[
        "nvlink", "xgmi", "ici", "neuronlink", "c2c", "upi", "pcie",
        "infiniband", "roce", "efa", "ethernet", "wifi", "wan", "nvme", "storage",
    ]  # fmt: skip
    topology: Literal["switch", "mesh", "torus", "point_to_point"]
    bandwidth_bytes_per_s: Figure[BytesPerSecond]
    """Into the fabric from one device, all its lanes and neighbours together."""
    peer_bandwidth_bytes_per_s: Figure[BytesPerSecond] | None = None
    """What one pair gets where that is less: one neighbour's lanes in a mesh or torus."""
    write_bandwidth_bytes_per_s: Figure[BytesPerSecond] | None = None
    """Of storage: what goes in where that is less than `bandwidth`, which comes out."""
    latency_s: Figure[Seconds]
    """Of one hop, or one step of a collective, for an empty message."""
    launch_s: Figure[Seconds] = Figure(value=0.0, source="not given: a message costs its latency alone")
    """The fixed time of one message or collective, its kernel's launch included, before its first step."""
    in_network_reduction: bool = False
    """Whether switches add up (NVLink SHARP), so that an all-reduce sends each byte once."""

    @model_validator(mode="after")
    def _pair_within_total(self) -> Link:
        peer = self.peer_bandwidth_bytes_per_s
        if peer is not None and peer.value > self.bandwidth_bytes_per_s.value:
            raise PydanticCustomError("peer", "peer_bandwidth must not be above bandwidth")
        write = self.write_bandwidth_bytes_per_s
        if write is not None and write.value > self.bandwidth_bytes_per_s.value:
            raise PydanticCustomError("write", "write_bandwidth must not be above bandwidth")
        return self

    @property
    def pair_bytes_per_s(self) -> float:
        """Return what one pair of devices gets, bytes a second per direction."""
        return (self.peer_bandwidth_bytes_per_s or self.bandwidth_bytes_per_s).value


LinkRef = Annotated[Link, Ref("links")]


def load_link(name: str) -> Link:
    """Return a built-in link; raises InputError with the nearest names."""
    return load("links", Link, name)
