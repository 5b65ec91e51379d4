"""Autoscaling by KV cache use."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.autoscalers import Autoscaler, Seen, Tolerance, Want, proportional


@register("autoscaler")
class KvUsage(Autoscaler):
    """As many replicas as bring the share of KV blocks in use to `target_kv`.

    The HorizontalPodAutoscaler's rule on vllm:kv_cache_usage_perc, the metric that KServe's guide scales on: ceil(
    replicas x use / target). Requests that wait count as if their replicas' caches were full.
    """

    kind: Literal["kv_usage"] = "kv_usage"
    target_kv: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the KV blocks, assumed."""
    tolerance: Tolerance = 0.1

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_replicas": 8},
        {"max_replicas": 4, "target_kv": 0.8},
    )

    def start(self) -> Want:
        """See the class."""

        def want(seen: Seen) -> int:
            use = 1.0 if seen.waiting_requests else seen.kv_frac
            ratio = use * seen.up / max(1, seen.replicas) / self.target_kv
            if seen.waiting_requests and not seen.up:
                return max(1, seen.replicas)
            return proportional(seen.replicas, ratio, self.tolerance)

        return want
