"""Autoscaling by what is outstanding now."""

from __future__ import annotations

from math import ceil
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.autoscalers import Autoscaler, Seen, Want


@register("autoscaler")
class Reactive(Autoscaler):
    """As many replicas as give each `target_requests` unfinished ones: KEDA's and Knative's concurrency target.

    A change of less than `tolerance` of the present number is not made (HorizontalPodAutoscaler: 10 %).
    """

    kind: Literal["reactive"] = "reactive"
    target_requests: Annotated[float, Field(gt=0)] = 64.0
    tolerance: Annotated[float, Field(ge=0)] = 0.1

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_replicas": 8},
        {"max_replicas": 4, "min_replicas": 0, "target_requests": 8},
    )

    def start(self) -> Want:
        """See the class."""

        def want(seen: Seen) -> int:
            exact = seen.outstanding_requests / self.target_requests
            if seen.replicas and abs(exact / seen.replicas - 1) <= self.tolerance:
                return seen.replicas
            return ceil(exact)

        return want
