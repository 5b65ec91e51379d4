"""Arrivals that wait for answers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from clustersim.kinds import register
from clustersim.units import Seconds
from clustersim.workload.arrivals import Arrivals


@register("arrivals")
class ClosedLoop(Arrivals):
    """A fixed number of users, each sending the next request when the last is answered and thought over.

    All begin at the start. This is what `--max-concurrency` with an infinite rate measures.
    """

    examples: ClassVar = (
        {"kind": "closed_loop", "concurrency": 64},
        {"kind": "closed_loop", "concurrency": 64, "think_time": "5 s"},
    )

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: PositiveInt
    think_time_s: Seconds = 0.0
    """Pause between an answer and the same user's next request."""
