"""Prefill work that the cache does not spare, against load."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.routers import AnyLoad, Choice, Router, Targets
from clustersim.serving.routers.least_outstanding import least


@register("router")
class KvAware(Router):
    """Send each request to the replica with the lowest cost, in tokens.

        cost = weight x (input tokens - those cached there) + input and output tokens of its unfinished requests

    After Dynamo's KV router (docs.nvidia.com/dynamo, Router Design), whose sum is, in blocks, weight x blocks to
    prefill + blocks in use, the request counted in both; its weight is 1. Three departures: blocks that several
    requests share count there once, here in each of them; prompts under way count there by the weight, too; output
    is counted there as it is made, here as if its length were known at arrival. So where unfinished requests share long
    prefixes load weighs more here than there, and a weight of 2 or more comes nearer. llm-d weighs a score of the
    prefix against scores of load.
    """

    kind: Literal["kv_aware"] = "kv_aware"
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Of a token to prefill, over one in an unfinished request."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"weight": 2.5})

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        weight = self.weight
        fewest = least(targets, attrgetter("tokens"))

        def cost(load: AnyLoad, cached: int) -> float:
            return load.tokens - weight * cached

        return lambda request: targets.best(request, cost, fewest(request))
