"""What a replica asks of others: how long a step takes, in which order requests queue, whom to prefill next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from clustersim.cost.curve import Curve
    from clustersim.records import RequestRecords
    from clustersim.serving.batch import Batch


class StepTimes(Protocol):
    """How long a step takes; see cost.step_time.StepTime."""

    def decode(self, batch: int) -> Curve:
        """Return the seconds of a pure decode step of `batch` sequences against their total context tokens."""

    def mixed(
        self, batch: int, context: int, tokens: int, pairs: int, keys: int, sequences: int, largest: int
    ) -> float:
        """Return the seconds of one step that also prefills `tokens` tokens of `sequences` sequences."""


class Queue(Protocol):
    """Waiting requests in the order in which they are to be admitted; a deque is first come first served."""

    def append(self, request: int, /) -> None:
        """Queue a request that arrives."""

    def appendleft(self, request: int, /) -> None:
        """Queue a preempted request, or put one back that was removed to be passed over."""

    def popleft(self) -> int:
        """Take the head: it is admitted."""

    def remove(self, request: int, /) -> None:
        """Take a request wherever it is."""

    def clear(self) -> None:
        """Forget all."""

    def __getitem__(self, index: int, /) -> int: ...  # index 0, the head

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]: ...


class Policy(Protocol):
    """What a replica asks of its scheduler; see serving.schedulers."""

    def queue(self, records: RequestRecords) -> Queue:
        """Return an empty queue in this scheduler's order."""

    def plan(self, batch: Batch) -> list[tuple[int, int]]:
        """Admit and preempt; return (request, tokens) to prefill in the next step."""

    def victim(self, batch: Batch) -> int:
        """Return which running request to preempt when KV runs out."""

    def open_to_arrivals(self, batch: Batch) -> bool:
        """Return whether a request that arrived now could join the batch at the next step boundary."""
