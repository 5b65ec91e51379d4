"""Autoscaling by the clock."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clustersim.kinds import Value, register
from clustersim.serving.autoscalers import Autoscaler, Seen, Want
from clustersim.units import DAY_S, PositiveSeconds, Seconds


class From(Value):
    """So many replicas from a time of day on."""

    from_s: Seconds
    replicas: Annotated[int, Field(ge=0)]


@register("autoscaler")
class Scheduled(Autoscaler):
    """So many replicas at each time of day: KEDA's cron scaler.

    It looks ahead by a cold start and an interval, so that replicas are up when they are due.
    """

    kind: Literal["scheduled"] = "scheduled"
    times: Annotated[tuple[From, ...], Field(min_length=1)]
    """In order of time; before the first of a day the last holds."""
    start_s: Seconds = 0.0
    """Time of day at which the simulation begins, as in a workload."""
    period_s: PositiveSeconds = DAY_S
    scale_down_after_s: Seconds = 0.0
    """Fewer replicas only if that is what it wanted for so long."""

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_replicas": 8, "times": [{"from": "8 h", "replicas": 8}, {"from": "20 h", "replicas": 2}]},
        {"max_replicas": 3, "period": "20 s", "interval": "2 s",
         "times": [{"from": "0 s", "replicas": 1}, {"from": "8 s", "replicas": 3}]},
    )  # fmt: skip

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        starts = [each.from_s for each in self.times]
        if starts != sorted(set(starts)) or starts[-1] >= self.period_s:
            raise ValueError("times: must rise, and end within the period")
        numbers = [each.replicas for each in self.times]
        if max(numbers) > self.max_replicas:
            raise ValueError(
                f"times: {max(numbers)} replicas are more than max_replicas: {self.max_replicas}"
            )
        if min(numbers) < self.min_replicas:
            raise ValueError(
                f"times: {min(numbers)} replicas are fewer than min_replicas: {self.min_replicas}"
            )
        return self

    @property
    def floor(self) -> int:
        """See Autoscaler."""
        return min(each.replicas for each in self.times)

    def at(self, time_s: float) -> int:
        """Return the replicas that are due at a time of the run."""
        time = (self.start_s + time_s) % self.period_s
        due = self.times[-1].replicas
        for each in self.times:
            if each.from_s <= time:
                due = each.replicas
        return due

    def most(self, time_s: float, length_s: float) -> int:
        """Return the most replicas that are due at any time from one of the run on, for so many seconds."""
        first = self.start_s + time_s
        soon = (each for each in self.times if (each.from_s - first) % self.period_s <= length_s)
        return max([self.at(time_s), *(each.replicas for each in soon)])

    def start(self) -> Want:
        """See the class."""

        def want(seen: Seen) -> int:
            return self.most(seen.now_s, seen.start_s + self.interval_s)

        return want
