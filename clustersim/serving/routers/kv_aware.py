"""Prefill work that the cache does not spare, against load."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.routers import AnyLoad, Choice, Router, Targets
from clustersim.serving.routers.least_outstanding import least


@register("router")
class KvAware(Router):
    """Send each request to the replica with the lowest cost, in tokens.

        cost = weight x (input tokens - those cached there)
             + input and output tokens of its unfinished requests - what of each was cached when it came

    After Dynamo's KV router (docs.nvidia.com/dynamo, Router Design), whose sum is, in blocks, weight x blocks to
    prefill + blocks in use, each once however many requests share it, the request counted in both; its weight is 1. Two
    departures: prompts under way count there by the weight, too; output is counted there as it is made, here as if its
    length were known at arrival. As a gateway it counts all tokens of a deployment. llm-d weighs a score of the prefix
    against scores of load.
    """

    kind: Literal["kv_aware"] = "kv_aware"
    counts_cached: ClassVar[bool] = True
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Of a token to prefill, over one in an unfinished request."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"weight": 2.5})

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        weight = self.weight
        fewest = least(targets, _own)

        def cost(load: AnyLoad, cached: int) -> float:
            return _own(load) - weight * cached

        return lambda request: targets.best(request, cost, fewest(request))


def _own(load: AnyLoad) -> float:
    return load.tokens - load.cached_tokens
