"""Drafts of a small head on the model's states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from clustersim.cost.speculation import Draft, Speculation, module_of
from clustersim.kinds import register
from clustersim.models.layout import Parallelism
from clustersim.models.precision import Precision, TensorKind
from clustersim.models.spec import Count, ModelSpec


@register("speculation")
class Eagle(Speculation):
    """Draft with one dense layer of the model's width that reads the model's states, and a head.

    EAGLE (Li et al. 2024, arXiv:2401.15077) joins a state with a token's embedding and uses the model's head. EAGLE-3
    (Li et al. 2025, arXiv:2503.01840) joins three states and has a head of its own for 32,000 frequent tokens:
    `{input_states: 3, draft_vocab_size: 32000}`. Drafts are chains, not trees. The layer is held in bf16.
    """

    kind: Literal["eagle"] = "eagle"
    input_states: int = Field(2, ge=1, le=8, strict=True)
    """States that are joined into one: 2 in EAGLE, 3 in EAGLE-3."""
    draft_vocab_size: Count | None = None
    """Rows of a head of its own; the model's head if not given."""
    intermediate_size: Count | None = None
    """Width of its MLP; that of the model's dense layers if not given."""

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"num_draft_tokens": 3, "acceptance": 0.7},
        {"num_draft_tokens": 5, "acceptance": 0.8, "input_states": 3, "draft_vocab_size": 32000},
    )

    def draft(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Draft | None:
        """Return the head, on the ranks that share the model's attention."""
        width = self.intermediate_size or spec.intermediate_size or 0
        changes = {"moe": None, "intermediate_size": width, "num_input_states": self.input_states}
        own = self.draft_vocab_size is not None
        if own:
            changes |= {"vocab_size": self.draft_vocab_size, "tied_embeddings": False}
        layout = Parallelism(tp=parallelism.tp, attention_dp=parallelism.attention_dp)
        formats = Precision(
            weights=precision.unquantised, activations=precision.unquantised, kv_cache=precision.kv_cache
        )
        shared: frozenset[TensorKind] = frozenset({"embedding"} if own else {"embedding", "lm_head"})
        return Draft(module_of(spec, "EAGLE head", **changes), layout, formats, self.queries, shared)

    def problems(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Iterator[str]:
        """See Speculation."""
        if not (self.intermediate_size or spec.intermediate_size):
            yield f"{spec.name} has no dense layers to take the width of the head from; give intermediate_size"
            return
        yield from super().problems(spec, parallelism, precision)
