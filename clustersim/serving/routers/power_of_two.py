"""Power of two choices."""

from __future__ import annotations

from operator import attrgetter
from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.routers import Choice, Router, Targets
from clustersim.serving.routers.roll import Roll

_DRAWN = 1024


@register("router")
class PowerOfTwo(Router):
    """Look at two replicas picked by chance and send the request to the less loaded (the first of equals).

    It needs no view of all replicas, and its longest queue grows as ln ln n / ln 2 over the mean where that of random
    choice grows as ln n / ln ln n (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
    """

    kind: Literal["power_of_two"] = "power_of_two"
    by: Literal["requests", "tokens"] = "requests"
    """What it compares: unfinished requests, or their input and output tokens."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"by": "tokens"})

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        up, loads, what = Roll(targets).up, targets.loads, attrgetter(self.by)
        lots: list[float] = []

        def choose(_request: int) -> int:
            if len(up) == 1:
                return up[0]
            if not lots:
                lots.extend(targets.rng.random(_DRAWN).tolist())
            first = int(lots.pop() * len(up))
            second = int(lots.pop() * (len(up) - 1))
            one, other = up[first], up[second + (second >= first)]
            mine, others = what(loads[one]), what(loads[other])
            if mine == others:
                return min(one, other)
            return one if mine < others else other

        return choose
