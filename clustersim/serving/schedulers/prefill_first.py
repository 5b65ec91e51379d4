"""Prefills go before decodes, in steps of their own."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.schedulers.continuous import Continuous


@register("scheduler")
class PrefillFirst(Continuous):
    """While prompts can be prefilled, steps do only that, first come first served; sequences that decode stand still.

    The default of vLLM V0 (vllm/core/scheduler.py, `_schedule_default`), Text Generation Inference, and SGLang without
    `--enable-mixed-chunk`. Prompts longer than the budget take several such steps (SGLang's `chunked_prefill_size`).
    First tokens come early, and each arrival is a pause in everybody else's output. Blocks that the next decode step
    needs are kept free; when they run out the sequence admitted last is preempted.
    """

    kind: Literal["prefill_first"] = "prefill_first"

    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"token_budget": 512, "max_num_seqs": 32})

    @property
    def prefills_alone(self) -> bool:
        """True."""
        return True
