"""A node: the accelerators of one scale-up domain, with the host, links and power around them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from clustersim.hardware.accelerator import AcceleratorRef
from clustersim.hardware.figure import Figure
from clustersim.hardware.link import LinkRef
from clustersim.hardware.reference import Ref, load
from clustersim.kinds import Value
from clustersim.units import Usd, Watts


class Node(Value):
    """One scale-up domain: a server, a rack (NVL72) or a pod (TPU)."""

    name: str
    accelerator: AcceleratorRef
    count: Annotated[int, Field(ge=1)]
    """Accelerators in the domain."""
    scale_up: LinkRef | None = None
    """Between the domain's accelerators; absent where there is one, or none but the host's."""
    nic: LinkRef
    """One network port out of the domain."""
    nics_per_accelerator: Annotated[float, Field(gt=0.0)] = 1.0
    host_link: LinkRef | None = None
    """Between an accelerator and its host; absent where they share memory."""
    host_idle_w: Figure[Watts]
    """Everything in the domain but its accelerators (CPUs, memory, switches, NICs, fans) at no load."""
    host_max_w: Figure[Watts]
    """The same at full load, as rated."""
    capex_usd: Figure[Usd] | None = None
    """Price of the whole domain, accelerators included."""

    @model_validator(mode="after")
    def _consistent(self) -> Node:
        if self.host_idle_w.value > self.host_max_w.value:
            raise PydanticCustomError("host_power", "host_idle must not be above host_max")
        return self

    @property
    def nic_bytes_per_s(self) -> float:
        """Return the network bandwidth of one accelerator's share of ports, bytes a second per direction."""
        return self.nic.bandwidth_bytes_per_s.value * self.nics_per_accelerator

    @property
    def max_w(self) -> float:
        """Return the rated power of the domain, watts."""
        return self.count * self.accelerator.tdp_w.value + self.host_max_w.value

    @property
    def idle_w(self) -> float:
        """Return the power of the domain at no load, watts."""
        return self.count * self.accelerator.idle_w.value + self.host_idle_w.value


NodeRef = Annotated[Node, Ref("nodes")]


def load_node(name: str) -> Node:
    """Return a built-in node; raises InputError with the nearest names."""
    return load("nodes", Node, name)
