"""Continuous batching with chunked prefill, as vLLM V1 schedules it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.replica import Replica
from clustersim.serving.schedulers import Scheduler


@register("scheduler")
class ChunkedPrefill(Scheduler):
    """Each step: one token for every decoding sequence, then prefill chunks, first come first served, up to a budget.

    When KV blocks run out the sequence admitted last is preempted and recomputed later; a step that preempts admits
    nobody. Source: vllm/v1/core/sched/scheduler.py, `Scheduler.schedule`.
    """

    kind: Literal["chunked_prefill"] = "chunked_prefill"
    token_budget: int = Field(8192, ge=1)
    """Tokens in one step at most (`max_num_batched_tokens`), per data-parallel rank and pipeline stage.

    A rank and stage takes no longer chunk of one prompt than that."""

    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"token_budget": 512, "max_num_seqs": 32})

    @property
    def max_step_tokens(self) -> int | None:
        """The token budget."""
        return self.token_budget

    def plan(self, replica: Replica) -> list[tuple[int, int]]:
        """See the class."""
        preempted = replica.make_room_to_decode()
        budget = self.token_budget * replica.in_flight - replica.kv.num_decoding
        chunks: list[tuple[int, int]] = []
        for request in list(replica.computed):
            if budget <= 0:
                break
            if request not in replica.computed:
                continue  # preempted for one before it
            left = replica.prefill_length(request) - replica.computed[request]
            chunk = min(left, budget, self.token_budget)
            while request in replica.computed and not replica.extend(request, chunk):
                replica.preempt(next(reversed(replica.running)))
                replica.make_room_to_decode()
                preempted = True
            if request in replica.computed:
                chunks.append((request, chunk))
                budget -= chunk
        if preempted:
            return chunks
        room = self.max_num_seqs * replica.data_parallel - len(replica.running)
        while replica.waiting and budget > 0 and room > 0:
            request = replica.waiting[0]
            chunk = min(replica.to_prefill(request), budget, self.token_budget)
            if not replica.admit(chunk):
                break
            chunks.append((request, chunk))
            budget -= chunk
            room -= 1
        return chunks

    def open_to_arrivals(self, replica: Replica) -> bool:
        """Return whether nobody queues and a slot is free."""
        return not replica.waiting and len(replica.running) < self.max_num_seqs * replica.data_parallel
