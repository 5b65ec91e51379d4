"""Autoscaling between two thresholds, a replica at a time."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clustersim.kinds import register
from clustersim.serving.autoscalers import Autoscaler, Seen, Want
from clustersim.units import PositiveSeconds, Seconds


@register("autoscaler")
class Planner(Autoscaler):
    """One replica more where a measure is over its upper threshold, one less where it is below the lower one.

    NVIDIA Dynamo's load-based planner, with its defaults: every 180 s; of a pool that decodes, `watch: kv`, the share
    of KV blocks in use, 0.9 and 0.5; of one that prefills, `watch: queue`, requests that wait for each replica, 5 and
    0.2 (ai-dynamo/dynamo 0.4, components/planner/src/dynamo/planner/defaults.py). It takes the mean of what it saw
    every 10 s; here it is one look. Nothing is changed while a replica starts, unless nothing is outstanding: one that
    gets no accelerators may wait for ever. None is taken away within `grace_intervals` of one that came.
    """

    kind: Literal["planner"] = "planner"
    watch: Literal["kv", "queue"] = "kv"
    interval_s: PositiveSeconds = 180.0
    """How often it looks."""
    scale_down_after_s: Seconds = 0.0
    """Fewer replicas only if that is what it wanted for so long."""
    up_over: Annotated[float, Field(gt=0)] | None = None
    """One more above this; Dynamo's of what it watches if not given."""
    down_below: Annotated[float, Field(ge=0)] | None = None
    """One less below this; Dynamo's of what it watches if not given."""
    grace_intervals: Annotated[int, Field(ge=0)] = 3

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_replicas": 8},
        {"max_replicas": 4, "watch": "queue", "interval": "20 s"},
    )

    @property
    def thresholds(self) -> tuple[float, float]:
        """Below the first one less, above the second one more."""
        low, high = (0.5, 0.9) if self.watch == "kv" else (0.2, 5.0)
        return (
            low if self.down_below is None else self.down_below,
            high if self.up_over is None else self.up_over,
        )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        low, high = self.thresholds
        if low >= high:
            raise ValueError(f"down_below: {low:g} is not less than up_over: {high:g}")
        return self

    def start(self) -> Want:
        """See the class."""
        low, high = self.thresholds
        came_s = float("-inf")

        def want(seen: Seen) -> int:
            nonlocal came_s
            if seen.up < seen.replicas and seen.outstanding_requests:
                return seen.replicas
            seen_now = seen.kv_frac if self.watch == "kv" else seen.waiting_requests / max(1, seen.up)
            if self.watch == "kv" and seen.waiting_requests:
                seen_now = max(seen_now, 1.0)
            if seen_now > high:
                came_s = seen.now_s
                return seen.replicas + 1
            if seen_now < low and seen.now_s - came_s > self.grace_intervals * self.interval_s:
                return seen.replicas - 1
            return seen.replicas

        return want
