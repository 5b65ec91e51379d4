"""Schedulers: which requests a replica prefills in its next step. One file a policy."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque

from pydantic import Field

from clustersim.kinds import Part
from clustersim.records import RequestRecords
from clustersim.serving.batch import Batch
from clustersim.serving.contracts import Queue


class Scheduler(Part):
    """Base of the schedulers."""

    max_num_seqs: int = Field(256, ge=1)
    """Sequences in a batch at most, per attention data-parallel rank (vLLM V1's default on most devices)."""

    @property
    @abstractmethod
    def max_step_tokens(self) -> int | None:
        """Tokens in one step at most; None where prompts bound it."""

    @abstractmethod
    def plan(self, batch: Batch) -> list[tuple[int, int]]:
        """Admit and preempt; return (request, tokens) to prefill in the next step."""

    def queue(self, records: RequestRecords) -> Queue:  # noqa: ARG002 - the contract's
        """Return an empty queue, first come first served."""
        return deque()

    def victim(self, batch: Batch) -> int:
        """Return the running request to preempt when KV runs out: the one admitted last."""
        return next(reversed(batch.running))

    def slots(self, batch: Batch) -> int:
        """Return how many more sequences the batch may have."""
        return self.max_num_seqs * batch.data_parallel - len(batch.running) - len(batch.loading)

    def open_to_arrivals(self, batch: Batch) -> bool:
        """Return whether a slot is free and nobody queues who would go first."""
        if batch.waiting and batch.adapters is None and isinstance(batch.waiting, deque):
            return False
        return self.slots(batch) > 0

    def admit_waiting(
        self, batch: Batch, chunks: list[tuple[int, int]], budget: float, longest: float
    ) -> None:
        """Admit from the queue in its order while slots, KV and the budget of tokens last, adding to `chunks`.

        Requests whose adapter finds no slot are passed over.
        """
        room = self.slots(batch)
        waiting, adapters = batch.waiting, batch.adapters
        passed: list[int] = []
        while waiting and budget > 0 and room > 0:
            request = waiting[0]
            if adapters is not None and not adapters.has_room(request):
                waiting.remove(request)
                passed.append(request)
                continue
            chunk = int(min(batch.to_prefill(request), budget, longest))
            if not batch.admit(chunk):
                break
            room -= 1
            if chunk:
                chunks.append((request, chunk))
                budget -= chunk
        for request in reversed(passed):
            waiting.appendleft(request)
