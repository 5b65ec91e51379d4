"""Drafts of the model's own multi-token-prediction module."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from clustersim.cost.speculation import Draft, Speculation, module_of
from clustersim.kinds import register
from clustersim.models.layout import Parallelism
from clustersim.models.precision import Precision, TensorKind
from clustersim.models.spec import ModelSpec


@register("speculation")
class MultiTokenPrediction(Speculation):
    """Draft with a module that was trained with the model: one layer of its kind, and its own embedding and head.

    DeepSeek-V3 (arXiv:2412.19437, 2.2): a matrix joins the embedding of a token with the model's state before it. More
    drafts than one run the module again on its own output. Its first pass takes all tokens of the step before, so that
    its KV follows the model's states (vllm/v1/spec_decode/eagle.py).
    """

    kind: Literal["mtp"] = "mtp"
    num_draft_tokens: int = Field(1, ge=0, le=64, strict=True)
    """Drafts of one sequence in one step; 0 for plain decoding."""

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"acceptance": 0.85},
        {"num_draft_tokens": 2, "acceptance": [0.85, 0.7]},
    )

    def draft(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Draft | None:
        """Return the module, in the model's layout and formats."""
        module = module_of(spec, "MTP module", num_input_states=2)
        shared = frozenset[TensorKind]({"embedding", "lm_head"})
        return Draft(module, parallelism.model_copy(update={"pp": 1}), precision, self.queries, shared)
