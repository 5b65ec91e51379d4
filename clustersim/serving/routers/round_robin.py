"""Round robin."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.routers import Choice, Load, Router


@register("router")
class RoundRobin(Router):
    """Send each request to the next replica in turn."""

    kind: Literal["round_robin"] = "round_robin"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def start(self, load: Sequence[Load]) -> Choice:
        """See the class."""
        turn = cycle(range(len(load)))
        return lambda _tokens: next(turn)
