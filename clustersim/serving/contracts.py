"""What a replica asks of others: how long a step takes, and whom to prefill in the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from clustersim.cost.curve import Curve
    from clustersim.serving.replica import Replica


class StepTimes(Protocol):
    """How long a step takes; see cost.step_time.StepTime."""

    def decode(self, batch: int) -> Curve:
        """Return the seconds of a pure decode step of `batch` sequences against their total context tokens."""

    def mixed(
        self, batch: int, context: int, tokens: int, pairs: int, keys: int, sequences: int, largest: int
    ) -> float:
        """Return the seconds of one step that also prefills `tokens` tokens of `sequences` sequences."""


class Policy(Protocol):
    """What a replica asks of its scheduler; see serving.schedulers."""

    def plan(self, replica: Replica) -> list[tuple[int, int]]:
        """Admit and preempt; return (request, tokens) to prefill in the next step."""

    def open_to_arrivals(self, replica: Replica) -> bool:
        """Return whether a request that arrived now could join the batch at the next step boundary."""
