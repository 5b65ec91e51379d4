"""Routers: which replica of a deployment gets a request. One file a policy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from clustersim.kinds import Part

#: choose(request weight in tokens) -> replica index
Choice = Callable[[int], int]


class Router(Part):
    """Base of the routers: immutable settings that start a fresh choice for every run."""

    @abstractmethod
    def start(self, load: Sequence[Load]) -> Choice:
        """Return the choice function over replicas whose loads are kept in `load`, in replica order."""


class Load:
    """What a router may know of one replica: unfinished requests and their tokens, input and output."""

    __slots__ = ("requests", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0
