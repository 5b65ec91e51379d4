"""Continuous batching: what the schedulers share that admit and prefill between the steps of a running batch."""

from __future__ import annotations

from pydantic import Field

from clustersim.serving.batch import Batch
from clustersim.serving.schedulers import Scheduler


class Continuous(Scheduler):
    """Base of the schedulers that cut prompts into chunks of a budget of tokens a step.

    Prompts in progress go on first, then the queue is admitted in its order. When KV blocks run out the victim is
    preempted and recomputed later; a step that preempts admits nobody, as in vLLM V1
    (vllm/v1/core/sched/scheduler.py, `Scheduler.schedule`).
    """

    token_budget: int = Field(8192, ge=1)
    """Tokens in one step at most (`max_num_batched_tokens`), per data-parallel rank and pipeline stage.

    A rank and stage takes no longer chunk of one prompt than that."""

    @property
    def max_step_tokens(self) -> int | None:
        """The token budget."""
        return self.token_budget

    @property
    def prefills_alone(self) -> bool:
        """Whether sequences that decode stand still in steps that prefill."""
        return False

    def in_progress(self, batch: Batch) -> list[int]:
        """Return the requests whose prompts go on, in the order in which the budget is dealt out."""
        return list(batch.computed)

    def plan(self, batch: Batch) -> list[tuple[int, int]]:
        """See Scheduler."""
        preempted = batch.make_room_to_decode()
        if not batch.computed and not batch.waiting:
            batch.stalled = False
            return []
        alone = self.prefills_alone
        budget = self.token_budget * batch.in_flight - (0 if alone else batch.kv.num_decoding)
        chunks: list[tuple[int, int]] = []
        for request in self.in_progress(batch) if batch.computed else ():
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
        if preempted:
            chunks = [each for each in chunks if each[0] in batch.computed]
        batch.stalled = alone and bool(chunks)
        return chunks
