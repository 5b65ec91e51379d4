"""Urgent requests first, as vLLM's `--scheduling-policy priority`."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.records import RequestRecords
from clustersim.serving.batch import Batch
from clustersim.serving.contracts import Queue
from clustersim.serving.queues import Key, Ordered
from clustersim.serving.schedulers.continuous import Continuous


@register("scheduler")
class Priority(Continuous):
    """Chunked prefill that admits by (priority, arrival), the lowest number first, and preempts the last of that order.

    A workload's tenants say the priorities. A request that waits preempts nobody: only KV that runs out does. Source:
    vllm/v1/core/sched/request_queue.py (`PriorityRequestQueue`) and scheduler.py, where the victim is the running
    request with the greatest (priority, arrival). One departure: prompts in progress share the budget in that order,
    too, not in order of admission.
    """

    kind: Literal["priority"] = "priority"

    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"token_budget": 512, "max_num_seqs": 32})

    def queue(self, records: RequestRecords) -> Queue:
        """Return an empty queue by priority, then arrival."""
        return Ordered(lambda request: _key(records, request))

    def in_progress(self, batch: Batch) -> list[int]:
        """See Continuous."""
        return sorted(batch.computed, key=lambda request: (_key(batch.records, request), request))

    def victim(self, batch: Batch) -> int:
        """Return the least urgent running request, of equals the one that came last."""
        return max(batch.running, key=lambda request: (_key(batch.records, request), request))


def _key(records: RequestRecords, request: int) -> Key:
    return records.priority[request], records.arrival_s[request]
