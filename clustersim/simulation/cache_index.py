"""Which replicas of a deployment have how much of a request's input in cache, be it a plain request or a task's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from clustersim.simulation.client import client_of

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.prefixes import Beginnings


class CacheIndex:
    """What routers of a deployment ask of its replicas' caches, and what its replicas ask of its requests' inputs."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.world = front.world
        self.records = front.records

    def home(self, request: int) -> int | None:
        """Return the replica, by its number in the deployment, that a task's request must go to; None: any."""
        call = self.world.calls.get(request)
        return None if call is None else client_of(call).work.kv.home(call, self.front)

    def rest(self, request: int, index: int) -> None:
        """Tell a replica which prefix a request rests on, and what it leaves."""
        call = self.world.calls.get(request)
        if call is not None:
            client_of(call).work.kv.rest(call, self.front, index)
            return
        beginnings = self._beginnings(request)
        if beginnings is not None:
            records, replica = self.records, self.front.replicas[index]
            prefix = beginnings.prefix(
                records.prefix[request], records.adapter[request], records.input_tokens[request],
                replica.index, replica.kv.block_size,
            )  # fmt: skip
            if prefix is not None:
                replica.sharing.wants[request] = prefix

    def cached(self, request: int, index: int) -> int:
        """Return the tokens of a request's input that are in a replica's cache."""
        front = self.front
        front.replicas[index].settle(self.world.env.now)
        number = front.first_replica + index
        call = self.world.calls.get(request)
        if call is not None:
            return client_of(call).work.kv.cached(call, front, number)
        beginnings = self._beginnings(request)
        if beginnings is None:
            return 0
        records = self.records
        return beginnings.cached(
            records.prefix[request], records.adapter[request], records.input_tokens[request], number
        )

    def holders(self, request: int) -> Iterator[tuple[int, Iterable[int]]]:
        """Yield (most tokens, replicas that may have as many of a request's input in cache), the most first."""
        first, count = self.front.first_replica, len(self.front.replicas)
        call = self.world.calls.get(request)
        beginnings = self._beginnings(request) if call is None else None
        records = self.records
        known: Iterable[tuple[int, Iterable[int]]] = ()
        if call is not None:
            known = client_of(call).work.kv.holders(call, self.front)
        elif beginnings is not None:
            known = beginnings.holders(
                records.prefix[request], records.adapter[request], records.input_tokens[request]
            )
        for tokens, numbers in known:
            yield tokens, [number - first for number in numbers if first <= number < first + count]

    def _beginnings(self, request: int) -> Beginnings | None:
        """Return the table that a plain request's prefix is a row of; None if it has none, or nothing is cached."""
        if not self.world.beginnings or not self.front.plan.deployment.prefix_caching:
            return None
        records = self.records
        return self.world.beginnings.get(records.workload[request]) if records.prefix[request] >= 0 else None
