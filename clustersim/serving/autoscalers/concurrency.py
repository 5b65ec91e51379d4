"""Autoscaling by mean concurrency, with panic."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clustersim.kinds import register
from clustersim.serving.autoscalers import Autoscaler, Seen, Want
from clustersim.units import PositiveSeconds, Seconds


@register("autoscaler")
class Concurrency(Autoscaler):
    """As many replicas as give each `target_requests` x `utilisation` unfinished ones, in the mean over a window.

    Knative's autoscaler (KPA): ceil(mean over 60 s / (100 x 70 %)). It panics when the mean over the short window of
    6 s asks for `panic_threshold` times the replicas that are up: from then on it goes by the short window, and takes
    none away, until the long window has passed without cause. Defaults: knative.dev, "Additional autoscaling
    configuration".
    """

    kind: Literal["concurrency"] = "concurrency"
    interval_s: PositiveSeconds = 2.0
    """How often it looks (Knative: 2 s)."""
    scale_down_after_s: Seconds = 0.0
    """Fewer replicas only if that is what it wanted for so long (Knative: 0 s)."""
    target_requests: Annotated[float, Field(gt=0)] = 100.0
    utilisation: Annotated[float, Field(gt=0, le=1)] = 0.7
    window_s: PositiveSeconds = 60.0
    panic_window_s: PositiveSeconds = 6.0
    panic_threshold: Annotated[float, Field(ge=1)] = 2.0

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_replicas": 8, "target_requests": 64},
        {"max_replicas": 4, "min_replicas": 0, "target_requests": 8},
    )

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if self.panic_window_s > self.window_s:
            raise ValueError(
                f"panic_window: {self.panic_window_s:g} s is more than window: {self.window_s:g} s"
            )
        return self

    def start(self) -> Want:
        """See the class."""
        looks: deque[tuple[float, int]] = deque()
        panic_until = -1.0
        most = 0

        def mean(now: float, window: float) -> float:
            inside = [requests for at, requests in looks if at > now - window]
            return sum(inside) / len(inside)

        def want(seen: Seen) -> int:
            nonlocal panic_until, most
            now = seen.now_s
            looks.append((now, seen.outstanding_requests))
            while looks[0][0] <= now - self.window_s:
                looks.popleft()
            target = self.target_requests * self.utilisation
            stable, hasty = (ceil(mean(now, w) / target - 1e-9) for w in (self.window_s, self.panic_window_s))
            if hasty >= self.panic_threshold * max(1, seen.up):
                panic_until = now + self.window_s
            if now >= panic_until:
                most = 0
                return stable
            most = max(most, hasty, seen.replicas)
            return most

        return want
