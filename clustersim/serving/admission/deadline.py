"""Those who have waited for too long are given up."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.admission import Admission, Admit, Entrance


@register("admission")
class Deadline(Admission):
    """Let every request in, and take it off the queue when its time to first token is over and it was never scheduled.

    Work is then not spent on requests whose promise is broken already. Those that were in a batch before, and then
    preempted, stay. Requests without a promise wait for as long as it takes.
    """

    kind: Literal["deadline"] = "deadline"
    margin: Annotated[float, Field(gt=0)] = 1.0
    """Share of the promised time to first token, from arrival, after which it is given up."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"margin": 0.5, "exempt_priority": 0})

    def start(self, entrance: Entrance) -> Admit | None:  # noqa: ARG002 - the contract's
        """See the class."""
        return None

    def patience_s(self, ttft_limit_s: float) -> float:
        """See Admission."""
        return self.margin * ttft_limit_s
