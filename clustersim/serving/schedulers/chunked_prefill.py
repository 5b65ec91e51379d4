"""Continuous batching with chunked prefill, as vLLM V1 schedules it."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.schedulers.continuous import Continuous


@register("scheduler")
class ChunkedPrefill(Continuous):
    """Each step: one token for every decoding sequence, then prefill chunks, first come first served, up to a budget.

    When KV blocks run out the sequence admitted last is preempted and recomputed later; a step that preempts admits
    nobody. Source: vllm/v1/core/sched/scheduler.py, `Scheduler.schedule`.
    """

    kind: Literal["chunked_prefill"] = "chunked_prefill"

    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"token_budget": 512, "max_num_seqs": 32})
