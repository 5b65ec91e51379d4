"""Autoscaling by what is outstanding now."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.autoscalers import Autoscaler, Seen, Tolerance, Want, proportional


@register("autoscaler")
class Reactive(Autoscaler):
    """As many replicas as give each `target_requests` unfinished ones.

    Kubernetes' HorizontalPodAutoscaler and KEDA on a metric of requests in flight: ceil(requests / target), no change
    while that differs from the present number by no more than `tolerance`.
    """

    kind: Literal["reactive"] = "reactive"
    target_requests: Annotated[float, Field(gt=0)] = 64.0
    tolerance: Tolerance = 0.1

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_replicas": 8},
        {"max_replicas": 4, "min_replicas": 0, "target_requests": 8},
    )

    def start(self) -> Want:
        """See the class."""

        def want(seen: Seen) -> int:
            ratio = seen.outstanding_requests / self.target_requests / max(1, seen.replicas)
            return proportional(seen.replicas, ratio, self.tolerance)

        return want
