"""Those who would wait for too long are turned away at once."""

from __future__ import annotations

from math import inf
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.admission import Admission, Admit, Entrance


@register("admission")
class SloAware(Admission):
    """Turn a request away whose time to first token is predicted to break the promise to its tenant.

        predicted = time since arrival + min over replicas that are up of (Q + (input - cached) / R)
        let in if predicted <= margin x slo.ttft

    Q is the seconds that the prefill step in progress has left and those of prompts that wait on the replica, R its
    prompt tokens a second with nothing else to do, cached what its KV cache has of this input. So decoding beside it, a
    batch that is full and the scheduler's order are not foreseen: `margin` is for them. Requests without a promise are
    let in, and so is whoever comes while no replica is up. Costs time in proportion to the replicas and what waits on
    them, for each request.
    """

    kind: Literal["slo_aware"] = "slo_aware"
    margin: Annotated[float, Field(gt=0)] = 1.0
    """Share of the promised time to first token that may be predicted."""
    give_up_late: bool = False
    """Whether to turn away, too, who still waits in a queue when the promise is broken, as `deadline` does."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"margin": 0.7, "give_up_late": True})

    def start(self, entrance: Entrance) -> Admit | None:
        """See the class."""
        targets = entrance.targets

        def admit(request: int, now: float) -> bool:
            limit_s = self.margin * targets.ttft_limit_s(request)
            left_s = limit_s - (now - entrance.arrival_s(request))
            if limit_s == inf or entrance.num_up() == 0:
                return True
            return any(targets.predicted_ttft_s(request, target) <= left_s for target in targets.up())

        return admit

    def patience_s(self, ttft_limit_s: float) -> float:
        """See Admission."""
        return ttft_limit_s if self.give_up_late else inf
