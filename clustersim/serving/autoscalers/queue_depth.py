"""Autoscaling by the queue."""

from __future__ import annotations

from math import ceil
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.autoscalers import Autoscaler, Seen, Want


@register("autoscaler")
class QueueDepth(Autoscaler):
    """As many replicas as leave each `target_waiting` requests that wait for a place in a batch.

    KEDA on vllm:num_requests_waiting, as vLLM's production stack sets it up: ceil(waiting / 5), looked at every 15 s,
    and `scale_down_after: 360 s` (docs/source/use_cases/autoscaling-keda.rst). A full queue says that there are too
    few, but an empty one not by how many there are too many; so while anything is outstanding it takes away one
    replica at a time, and only while those that are left would have less than `max_kv` of their KV blocks in use.
    """

    kind: Literal["queue_depth"] = "queue_depth"
    target_waiting: Annotated[float, Field(gt=0)] = 5.0
    max_kv: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of the KV blocks, assumed."""

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_replicas": 8},
        {"max_replicas": 4, "min_replicas": 0, "target_waiting": 2, "scale_down_after": "360 s"},
    )

    def start(self) -> Want:
        """See the class."""

        def want(seen: Seen) -> int:
            if seen.waiting_requests:
                return max(seen.replicas, ceil(seen.waiting_requests / self.target_waiting))
            if not seen.outstanding_requests:
                return 0
            fewer = seen.replicas - 1
            return fewer if fewer and seen.kv_frac * seen.up <= self.max_kv * fewer else seen.replicas

        return want
