"""Drafts that are looked up in the text so far."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.cost.speculation import Draft, Speculation
from clustersim.kinds import register
from clustersim.models.layout import Parallelism
from clustersim.models.precision import Precision
from clustersim.models.spec import ModelSpec
from clustersim.units import Seconds


@register("speculation")
class NGram(Speculation):
    """Draft what followed the last few tokens where they stood before, in the prompt or the output (prompt lookup).

    No accelerator works for it, and where nothing is found nothing is accepted: count that in `acceptance`.
    """

    kind: Literal["ngram"] = "ngram"
    lookup_s: Seconds = 10e-6
    """Host time of one sequence's lookup, while the device waits. The default is assumed: what an engine's host spends
    on a sequence in a step (`sequence_overhead` of vllm-v1)."""

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"num_draft_tokens": 4, "acceptance": [0.5, 0.6, 0.7, 0.7]},
        {"num_draft_tokens": 3, "acceptance": 0.4, "lookup": "50 us"},
    )

    def draft(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Draft | None:  # noqa: ARG002
        """Return None."""
        return None

    @property
    def sequence_host_s(self) -> float:
        """A lookup."""
        return self.lookup_s
