"""Autoscalers: how many replicas a deployment should have. One file a policy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
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
    arrived_requests: int
    """Since it last looked."""
    start_s: float
    """What a cold start took last, or would take: how far ahead a prediction must look."""


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

    @abstractmethod
    def start(self) -> Want:
        """Return a fresh policy for one run."""
