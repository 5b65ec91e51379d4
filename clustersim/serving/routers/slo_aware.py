"""By the time to first token that can be expected."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from clustersim.kinds import register
from clustersim.serving.routers import Choice, Router, Targets
from clustersim.serving.routers.roll import Roll


@register("router")
class SloAware(Router):
    """Send each request to the replica with the least predicted time to first token (the least loaded of equals).

        predicted    round trip + prefill work that waits there + input tokens not cached there / prefill tokens/s

    With `prefer: cheapest` it goes to the cheapest, by dollars a request at full load, of those whose prediction is
    within the TTFT that the request was promised; where none is, to the least prediction. As llm-d's scorer of
    predicted latency does with a model of its own. What a request waits for a place in a full batch is not foreseen.
    It looks at every replica for each request; `sample` bounds that.
    """

    kind: Literal["slo_aware"] = "slo_aware"
    prefer: Literal["fastest", "cheapest"] = "fastest"
    sample: PositiveInt | None = None
    """Look at so many replicas picked by chance, as a router of many must; all if not given."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"prefer": "cheapest"}, {"sample": 2})

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        up, loads, facts = Roll(targets).up, targets.loads, targets.facts
        cheapest = self.prefer == "cheapest"

        def choose(request: int) -> int:
            seen: list[int] = up
            if self.sample is not None and self.sample < len(up):
                lots = targets.rng.choice(len(up), self.sample, replace=False).tolist()
                seen = [up[lot] for lot in lots]
            limit_s = targets.ttft_limit_s(request) if cheapest else -1.0

            def rank(at: int) -> tuple[float, float, float, float, int]:
                expected_s = targets.predicted_ttft_s(request, at)
                kept = expected_s <= limit_s
                usd = facts[at].usd_per_request if kept else 0.0
                return 0.0 if kept else 1.0, usd, expected_s, loads[at].requests, at

            return min(map(rank, seen))[-1]

        return choose
