"""Static batching: a batch is formed, runs until its last sequence ends, and only then comes the next."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.replica import Replica
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

    def plan(self, replica: Replica) -> list[tuple[int, int]]:
        """See the class."""
        replica.make_room_to_decode()
        chunks: list[tuple[int, int]] = []
        if replica.kv.num_decoding:
            return chunks
        while replica.waiting and len(chunks) < self.max_num_seqs * replica.data_parallel:
            request = replica.waiting[0]
            length = replica.to_prefill(request)
            if not replica.admit(length):
                break
            chunks.append((request, length))
        return chunks

    def open_to_arrivals(self, replica: Replica) -> bool:  # noqa: ARG002 - the contract of every scheduler
        """Return False: nobody joins a batch in progress."""
        return False
