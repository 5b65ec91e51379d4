"""Round robin."""

from __future__ import annotations

from itertools import cycle
from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.routers import Choice, Router, Targets


@register("router")
class RoundRobin(Router):
    """Send each request to the next replica in turn."""

    kind: Literal["round_robin"] = "round_robin"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        turn, loads = cycle(range(len(targets.loads))), targets.loads
        return lambda _request: next(index for index in turn if loads[index].up)
