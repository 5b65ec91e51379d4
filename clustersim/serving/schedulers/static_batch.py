"""Static batching: a batch is formed, runs until its last sequence ends, and only then comes the next."""

from __future__ import annotations

from math import inf
from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.batch import Batch
from clustersim.serving.schedulers import Scheduler


@register("scheduler")
class StaticBatch(Scheduler):
    """Take up to `max_num_seqs` waiting requests, prefill them whole in one step, decode until all have ended.

    Sequences that end early leave their slot empty. If KV blocks run out, the sequence admitted last is preempted.
    """

    kind: Literal["static_batch"] = "static_batch"

    examples: ClassVar[tuple[dict[str, object], ...]] = ({"max_num_seqs": 8},)

    @property
    def max_step_tokens(self) -> int | None:
        """None: whole prompts are prefilled together."""
        return None

    def plan(self, batch: Batch) -> list[tuple[int, int]]:
        """See the class."""
        batch.make_room_to_decode()
        chunks: list[tuple[int, int]] = []
        if not batch.kv.num_decoding and not batch.computed:
            self.admit_waiting(batch, chunks, inf, inf)
        return chunks

    def open_to_arrivals(self, batch: Batch) -> bool:  # noqa: ARG002 - the contract of every scheduler
        """Return False: nobody joins a batch in progress."""
        return False
