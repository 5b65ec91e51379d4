"""Autoscalers: how many replicas a deployment should have. One file a policy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from math import ceil
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from clustersim.kinds import Part
from clustersim.units import PositiveSeconds, Seconds


class Seen(NamedTuple):
    """What an autoscaler looks at, each interval."""

    now_s: float
    replicas: int
    """Up or on their way up."""
    up: int
    outstanding_requests: int
    """Unfinished, those that wait for a replica included."""
    outstanding_tokens: int
    """Of those, input and output."""
    waiting_requests: int
    """Of those, not in a batch yet: vLLM's num_requests_waiting."""
    kv_frac: float
    """Mean share of the KV blocks that the batches of the replicas that are up hold."""
    arrived_requests: int
    """Since it last looked; of one that prefills for others, those that came to these."""
    start_s: float
    """What a cold start on free accelerators took last, or would take: how far ahead a prediction must look."""


def proportional(now: int, ratio: float, tolerance: float) -> int:
    """Return Kubernetes' HorizontalPodAutoscaler rule: ceil(replicas x ratio), none changed within the tolerance."""
    if now and abs(ratio - 1) <= tolerance:
        return now
    return ceil(max(1, now) * ratio - 1e-9)


#: Share of the present number by which the wish must differ (HorizontalPodAutoscaler: 10 %).
Tolerance = Annotated[float, Field(ge=0)]

#: want(seen) -> replicas, before the limits
Want = Callable[[Seen], int]


class Autoscaler(Part):
    """Base of the autoscalers."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """0: the deployment sleeps while nobody asks, and the first request wakes it."""
    max_replicas: Annotated[int, Field(ge=1)]
    interval_s: PositiveSeconds = 15.0
    """How often it looks (Kubernetes' HorizontalPodAutoscaler: 15 s)."""
    scale_down_after_s: Seconds = 300.0
    """Fewer replicas only if that is what it wanted for so long (HorizontalPodAutoscaler: 300 s)."""
    priority: int = 0
    """Lower goes first: where accelerators are short, a deployment gets those of one with a higher number."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas: {self.min_replicas} is more than max_replicas: {self.max_replicas}"
            )
        return self

    @property
    def floor(self) -> int:
        """The replicas it keeps though nobody asks, whenever that is least."""
        return self.min_replicas

    @abstractmethod
    def start(self) -> Want:
        """Return a fresh policy for one run."""
