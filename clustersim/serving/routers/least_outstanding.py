"""Least outstanding requests and least outstanding tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.routers import AnyLoad, Choice, Router, Targets


@register("router")
class LeastOutstandingRequests(Router):
    """Send each request to the replica with the fewest unfinished requests (the first of equals)."""

    kind: Literal["least_outstanding_requests"] = "least_outstanding_requests"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        return least(targets, attrgetter("requests"))


@register("router")
class LeastOutstandingTokens(Router):
    """Send each request to the replica with the fewest tokens, input and output, in unfinished requests.

    Output lengths are counted as if they were known at arrival: an upper bound on what a real router can do.
    """

    kind: Literal["least_outstanding_tokens"] = "least_outstanding_tokens"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        return least(targets, attrgetter("tokens"))


def least(targets: Targets, what: Callable[[AnyLoad], float], among: Collection[int] | None = None) -> Choice:
    """Return the choice of the target with the least of something, the first of equals, in O(log targets).

    It is -1 where no target is up of those `among` which it chooses: all, if not given.
    """
    loads = targets.loads
    members = frozenset(range(len(loads)) if among is None else among)
    if len(members) == 1:
        (only,) = members
        return lambda _request: only if loads[only].up else -1
    most = 8 * len(members) + 64
    heap: list[tuple[float, int]] = []

    def fill() -> None:
        heap[:] = [(what(loads[index]), index) for index in members if loads[index].up]
        heapify(heap)

    def moved(index: int) -> None:
        if index not in members:
            return
        if len(heap) > most:
            fill()
        else:
            heappush(heap, (what(loads[index]), index))

    def choose(_request: int) -> int:
        while heap:
            value, index = heap[0]
            load = loads[index]
            if load.up and what(load) == value:
                return index
            heappop(heap)
        return -1

    fill()
    targets.watchers.append(moved)
    return choose
