"""The KV of one task: what its contexts have in the caches of replicas, shared by the requests that go on from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clustersim.serving.kv_cache import Prefix
from clustersim.serving.replica import Replica
from clustersim.serving.sharing import held
from clustersim.workload.tasks import Call, Context

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.tasks import TaskSource


class TaskKv:
    """Prefixes of a task's contexts, by replica, from when a request first needs one until the task is over.

    `beginning` is how the prompt begins that others begin with, too (row of the workload's table, -1 for none), and
    `adapter` the LoRA adapter on the workload's own deployments.
    """

    __slots__ = ("_adapter", "_beginning", "_beginnings", "_held", "_prompt", "_sent", "_source")

    def __init__(self, source: TaskSource, prompt: Context, beginning: int, adapter: int) -> None:
        self._source = source
        self._prompt = prompt
        self._beginning = beginning
        self._beginnings = source.world.beginnings.get(source.index) if beginning >= 0 else None
        self._adapter = adapter
        self._held: list[tuple[Replica, Prefix]] = []
        self._sent: dict[Context, list[int]] = {}
        """Context -> replicas, by their numbers among all, that requests with that very context were sent to."""

    def adapter_on(self, front: Front) -> int:
        """Return the LoRA adapter that requests to a deployment ask for: -1 but on the workload's own ones."""
        return self._adapter if front in self._source.own else -1

    # ---- what requests rest on -------------------------------------------------------------------------------

    def rest(self, call: Call, front: Front, index: int) -> None:
        """Name what a call rests on at a replica of a deployment, and what it leaves there."""
        if not front.plan.deployment.prefix_caching:
            return
        replica = front.replicas[index]
        self._sent.setdefault(call.context, []).append(replica.index)
        prefix = self._prefix(call.context, front, replica)
        if prefix is not None:
            replica.sharing.wants[call.request] = prefix
        if call.keep and replica.on_prefilled is not None:
            if prefix is not None:  # what it makes is made elsewhere
                call.after.nodes[replica.index] = prefix
        elif call.keep:
            left = Prefix(prefix, call.after)
            left.tokens = max(prefix.tokens if prefix else 0, call.after.tokens - 1) // replica.kv.block_size
            left.tokens *= replica.kv.block_size
            replica.sharing.keeps[call.request] = left
            self._hold(call.after, replica, left)

    def _prefix(self, context: Context, front: Front, replica: Replica) -> Prefix | None:
        """Return the shared prefix of a context on a replica, made where there is none; None for less than a block."""
        known = context.nodes.get(replica.index)
        if known is None:
            below = self._below(context, front, replica)
            size = replica.kv.block_size
            tokens = (context.tokens - 1) // size * size
            if tokens <= (below.tokens if below else 0):
                return below
            known = Prefix(below, context, tokens)
            self._hold(context, replica, known)
        assert isinstance(known, Prefix)
        return known

    def _below(self, context: Context, front: Front, replica: Replica) -> Prefix | None:
        """Return what a context's prefix rests on: the context it extends, or how others' prompts begin."""
        if context.parent is not None:
            return self._prefix(context.parent, front, replica)
        if self._beginnings is None or context is not self._prompt:
            return None
        return self._beginnings.prefix(
            self._beginning, self.adapter_on(front), context.tokens, replica.index, replica.kv.block_size
        )

    def _hold(self, context: Context, replica: Replica, prefix: Prefix) -> None:
        context.nodes[replica.index] = prefix
        self._held.append((replica, prefix))

    def drop(self, context: Context, front: Front, now: float) -> None:
        """Free what a context has on the replicas of a deployment."""
        for number, prefix in context.nodes.items():
            assert isinstance(prefix, Prefix)
            index = number - front.first_replica
            if 0 <= index < len(front.replicas):
                front.replicas[index].drop(prefix, now)

    def drop_all(self, now: float) -> None:
        """Free all that the task has anywhere: it is over."""
        for replica, prefix in reversed(self._held):
            replica.drop(prefix, now)

    # ---- where it is -----------------------------------------------------------------------------------------

    def cached(self, call: Call, front: Front, number: int) -> int:
        """Return the tokens of a call's context that are in the cache of a replica, by its number among all."""
        at: Context | None = call.context
        while at is not None:
            node = at.nodes.get(number)
            if node is not None:
                assert isinstance(node, Prefix)
                return held(node)
            if at is self._prompt and self._beginnings is not None:
                return self._beginnings.cached(self._beginning, self.adapter_on(front), at.tokens, number)
            at = at.parent
        return 0

    def holders(self, call: Call, front: Front) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield (most tokens, replicas that may have as many of a call's context in their caches), the most first."""
        at: Context | None = call.context
        while at is not None:
            yield at.tokens, list(at.nodes)
            if at is self._prompt and self._beginnings is not None:
                yield from self._beginnings.holders(self._beginning, self.adapter_on(front), at.tokens)
            at = at.parent

    def home(self, call: Call, front: Front) -> int | None:
        """Return the replica of a deployment that is up where another request has a call's very context: see `forks`.

        None for a free choice: one that goes on from an answer is a request of its own, which the router places.
        """
        first, count = front.first_replica, len(front.replicas)
        context = call.context
        if context is self._prompt and self._source.settings.forks == "spread":
            return None
        for number in self._sent.get(context, ()):
            if first <= number < first + count and front.loads[number - first].up:
                return number - first
        return None
