"""Failures: what breaks, how often, for how long. One file a kind of thing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Self

from pydantic import model_validator

from clustersim.kinds import Part
from clustersim.units import PositiveSeconds, Seconds


class Outage(NamedTuple):
    """What one failure takes away."""

    cluster: str
    nodes: tuple[int, ...] = ()
    """Nodes whose replicas die and that take no others until the repair."""
    accelerator: int | None = None
    """Of the one node, if it is not all of it."""
    network_frac: float = 1.0
    """What is left of the bandwidth of the nodes' ports."""


class Extent(NamedTuple):
    """A cluster that may be hit."""

    cluster: str
    site: str
    num_nodes: int
    per_node: int


class Failure(Part):
    """Base of the failures: at times given, or at random with a mean time between failures of each thing."""

    cluster: str | None = None
    """Name of the cluster; every one if not given."""
    at_s: tuple[Seconds, ...] = ()
    """Times at which one of the things, drawn at random, fails."""
    mtbf_s: PositiveSeconds | None = None
    """Mean time between failures of one thing; failures of each are a Poisson process."""
    repair_s: PositiveSeconds = 3600.0
    """Until it is back."""

    @model_validator(mode="after")
    def _when(self) -> Self:
        if not self.at_s and self.mtbf_s is None:
            raise ValueError("a failure needs `at`, the times, or an `mtbf`")
        return self

    @abstractmethod
    def things(self, extents: Sequence[Extent]) -> list[tuple[Outage, ...]]:
        """Return all things that may fail, each as the outages it causes."""
