"""What somebody published of a system that a scenario describes, to hold a run against."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from clustersim.kinds import Value

Positive = Annotated[float, Field(gt=0)]


class Published(Value):
    """One published figure, and the metric of a run that should equal it."""

    name: Annotated[str, Field(min_length=1)]
    """What it is, in words and with its unit."""
    metric: Annotated[str, Field(min_length=1)]
    """The metric by its path, e.g. deployments.decode.tokens_per_s_per_gpu."""
    times: Positive = 1.0
    """The metric is multiplied by this, e.g. 8 from accelerators to nodes."""
    low: Positive
    """The figure, or the lower end of what was published."""
    high: Positive | None = None
    """The upper end, where a range was published."""
    source: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high is not None and self.high < self.low:
            raise PydanticCustomError("range", "high must not be below low")
        return self

    def error_frac(self, found: float) -> float:
        """Return how far, as a share, a value is off the published figure or the nearer end of its range."""
        high = self.low if self.high is None else self.high
        nearest = min(max(found, self.low), high)
        return found / nearest - 1
