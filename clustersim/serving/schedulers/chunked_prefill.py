"""Continuous batching with chunked prefill, as vLLM V1 schedules it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.batch import Batch
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

    def plan(self, batch: Batch) -> list[tuple[int, int]]:
        """See the class."""
        preempted = batch.make_room_to_decode()
        budget = self.token_budget * batch.in_flight - batch.kv.num_decoding
        chunks: list[tuple[int, int]] = []
        for request in list(batch.computed) if batch.computed else ():
            if budget <= 0:
                break
            if request not in batch.computed:
                continue  # preempted for one before it
            left = batch.prefill_length(request) - batch.computed[request]
            chunk = min(left, budget, self.token_budget)
            while request in batch.computed and not batch.extend(request, chunk):
                batch.preempt(self.victim(batch))
                batch.make_room_to_decode()
                preempted = True
            if request in batch.computed:
                chunks.append((request, chunk))
                budget -= chunk
        if not preempted and batch.waiting:
            self.admit_waiting(batch, chunks, budget, self.token_budget)
        return [each for each in chunks if each[0] in batch.computed] if preempted else chunks
