"""Round robin by weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.errors import unknown
from clustersim.kinds import register
from clustersim.serving.routers import Choice, Router, Targets


@register("router")
class Weighted(Router):
    """Send requests to targets in turn, each as often as its weight says, spread evenly.

    Without weights those are the requests a second that a target can serve: round robin over the equal replicas of one
    deployment, by capacity over several deployments behind one workload. By stride scheduling (Waldspurger, Weihl,
    1995): each target advances by 1 / weight a request, and the one that is furthest behind is next.
    """

    kind: Literal["weighted"] = "weighted"
    weights: Mapping[str, Annotated[float, Field(gt=0)]] | None = None
    """By name of the deployment; by what each can serve if not given."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def problems(self, names: Sequence[str]) -> Iterator[str]:
        """See Router."""
        given = self.weights
        if given is None:
            return
        if not names:
            yield "`weights` name deployments, but replicas of one deployment are equal: leave them out"
            return
        yield from (unknown("deployment", name, names) for name in given if name not in names)
        missing = [name for name in names if name not in given]
        if missing:
            yield f"`weights` has none for {', '.join(missing)}"

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        loads, given = targets.loads, self.weights
        weights = [
            facts.requests_per_s * facts.num_replicas if given is None else given[facts.name]
            for facts in targets.facts
        ]
        mean = sum(weights) / len(weights)
        strides = [mean / weight for weight in weights]
        turns = [stride / 2 for stride in strides]
        heap: list[tuple[float, int]] = []
        queued = [False] * len(loads)
        now = 0.0

        def moved(index: int) -> None:
            if loads[index].up and not queued[index]:
                turns[index] = max(turns[index], now)
                queued[index] = True
                heappush(heap, (turns[index], index))

        def choose(_request: int) -> int:
            nonlocal now
            while True:
                turn, index = heappop(heap)
                if not loads[index].up:
                    queued[index] = False
                    continue
                now = turn
                turns[index] = turn + strides[index]
                heappush(heap, (turns[index], index))
                return index

        for index in range(len(loads)):
            moved(index)
        targets.watchers.append(moved)
        return choose
