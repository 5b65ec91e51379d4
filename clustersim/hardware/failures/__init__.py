"""Failures: what breaks, how often, for how long. One file a kind of thing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from clustersim.errors import unknown
from clustersim.kinds import Part
from clustersim.units import PositiveSeconds, Seconds


class Extent(NamedTuple):
    """A cluster that may be hit."""

    cluster: str
    site: str
    num_nodes: int
    per_node: int


class Outage(NamedTuple):
    """What one failure takes away."""

    cluster: str
    nodes: tuple[int, ...] = ()
    """Nodes whose replicas die and that take no others until the repair."""
    accelerator: int | None = None
    """Of the one node, if it is not all of it."""
    memory: bool = False
    """Whether the nodes' host memory is lost, too."""


class Weakening(NamedTuple):
    """What one failure leaves of the network."""

    frac: float
    """Share of the bandwidth that is left."""
    node: tuple[str, int] | None = None
    """The ports of this node of a cluster."""
    site: str | None = None
    """All ways to and from a site; at 0 no request reaches it either."""


Harm = Outage | Weakening


class Failure(Part):
    """Base of the failures: at times given, or at random with a mean time between failures of each thing."""

    at_s: tuple[Seconds, ...] = ()
    """Times at which one of the things, drawn at random, fails."""
    mtbf_s: PositiveSeconds | None = None
    """Mean time between failures of one thing; failures of each are a Poisson process."""
    repair_s: PositiveSeconds = 3600.0
    """Until it is back."""

    @field_validator("at_s", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str | int | float):
            raise ValueError(f"a list of times, like [{value}]")
        return value

    @model_validator(mode="after")
    def _when(self) -> Self:
        if not self.at_s and self.mtbf_s is None:
            raise ValueError("a failure needs `at`, the times, or an `mtbf`")
        return self

    @abstractmethod
    def things(self, extents: Sequence[Extent]) -> list[tuple[Harm, ...]]:
        """Return all things that may fail, each as the harm it does."""

    @abstractmethod
    def problems(self, extents: Sequence[Extent]) -> Iterator[tuple[str, str]]:
        """Yield (key, problem) for what does not exist in this fleet."""


class ClusterFailure(Failure):
    """Base of the failures of things in clusters."""

    cluster: str | None = None
    """Name of the cluster; every one if not given."""

    def problems(self, extents: Sequence[Extent]) -> Iterator[tuple[str, str]]:
        """See Failure."""
        names = [extent.cluster for extent in extents]
        if self.cluster is not None and self.cluster not in names:
            yield "cluster", unknown("cluster", self.cluster, names)

    def nodes(self, extents: Sequence[Extent]) -> Iterator[tuple[Extent, int]]:
        """Yield the nodes that may be hit."""
        for extent in extents:
            if self.cluster in (None, extent.cluster):
                yield from ((extent, node) for node in range(extent.num_nodes))


Share = Annotated[float, Field(ge=0.0, lt=1.0)]
