"""Recorded lengths."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from clustersim.kinds import register
from clustersim.workload.distributions import AnyDistribution, check_reach
from clustersim.workload.lengths import RequestLengths


@register("lengths")
class TraceLengths(RequestLengths):
    """The lengths of the workload's trace, with its own split into thinking and answer or a drawn one."""

    examples: ClassVar = (
        {"kind": "trace"},
        {"kind": "trace", "order": "random", "thinking_share": {"kind": "uniform", "low": 0.5, "high": 0.9}},
    )

    kind: Literal["trace"] = "trace"
    order: Literal["file", "random"] = "file"
    """Rows as they lie, from the first again after the last; or drawn with replacement."""
    thinking_share: AnyDistribution | None = None
    """Share of each output that is thinking, where the trace does not say."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.thinking_share is not None:
            check_reach("thinking_share", self.thinking_share, 0, 1)
        return self
