"""The longest cached prefix, while load is even."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.routers import AnyLoad, Choice, Router, Targets
from clustersim.serving.routers.least_outstanding import least


@register("router")
class PrefixAware(Router):
    """Send each request to the replica that has most of its input in its KV cache, while load is even.

        uneven     most - fewest unfinished requests > max_difference, and most > max_ratio x fewest
        cached     tokens of the input in the cache of the replica that has most of it (of equals, the least loaded)

    Where load is uneven, or cached / input is not above the threshold, the request goes to the replica with the fewest
    unfinished requests. After SGLang's cache-aware policy, with the defaults of its router (Shepherd Model Gateway,
    docs/getting-started/load-balancing.md), which keeps trees of its own and sends what no replica knows to the one
    with the smallest; here the caches themselves are looked at.
    """

    kind: Literal["prefix_aware"] = "prefix_aware"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the input that must be cached (`cache_threshold`)."""
    max_difference: Annotated[float, Field(ge=0)] = 64.0
    """Requests between the most and the least loaded replica (`balance_abs_threshold`)."""
    max_ratio: Annotated[float, Field(ge=1)] = 1.5
    """Of the most over the least loaded replica's requests (`balance_rel_threshold`)."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"threshold": 0.5, "max_difference": 4})

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        loads = targets.loads
        fewest = least(targets, attrgetter("requests"))
        most = least(targets, _most)

        def choose(request: int) -> int:
            idle = fewest(request)
            low, high = loads[idle].requests, loads[most(request)].requests
            if high - low > self.max_difference and high > self.max_ratio * low:
                return idle
            at = targets.best(request, _cost, idle)
            tokens = targets.cached(request, at)
            return at if tokens > self.threshold * targets.input_tokens(request) else idle

        return choose


def _cost(load: AnyLoad, cached: int) -> tuple[int, float]:
    return -cached, load.requests


def _most(load: AnyLoad) -> float:
    return -load.requests
