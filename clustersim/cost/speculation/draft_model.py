"""Drafts of a smaller model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from clustersim.cost.speculation import Draft, Speculation, same_vocabulary
from clustersim.kinds import register
from clustersim.models.hf_config import ModelRef
from clustersim.models.layout import Parallelism, weight_bytes_per_rank
from clustersim.models.precision import Precision
from clustersim.models.spec import Count, ModelSpec


@register("speculation")
class DraftModel(Speculation):
    """Draft with a smaller model on the same ranks, run once for each draft (Leviathan et al., arXiv:2211.17192).

    It prefills every prompt too, and keeps a KV cache of its own.
    """

    kind: Literal["draft_model"] = "draft_model"
    model: ModelRef
    """The smaller model; it must have the vocabulary of the one that it drafts for. The same model may draft in fewer
    bits."""
    precision: Precision | None = None
    """Its formats; those of its published checkpoint, with the other's KV cache, if not given."""
    tp: Count | None = None
    """Ranks of a tensor-parallel group over which it is cut; all of them if not given."""

    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"model": "llama-3.1-8b", "num_draft_tokens": 4, "acceptance": 0.8},
        {
            "model": "llama-3.1-8b",
            "num_draft_tokens": 2,
            "acceptance": [0.9, 0.8],
            "precision": "fp8",
            "tp": 1,
        },
    )

    def draft(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Draft | None:  # noqa: ARG002
        """Return the smaller model, a copy for each rank of attention data parallelism."""
        tp = self.tp or parallelism.tp
        if self.model.moe is None:
            layout = Parallelism(tp=tp, attention_dp=parallelism.attention_dp)
        else:
            layout = parallelism.model_copy(update={"tp": tp, "pp": 1})
        return Draft(self.model, layout, self._formats(precision), 1)

    def _formats(self, precision: Precision) -> Precision:
        native = self.model.native_precision
        return self.precision or native.model_copy(update={"kv_cache": precision.kv_cache})

    def _is_smaller(self, spec: ModelSpec, precision: Precision) -> bool:
        """Say whether it has fewer parameters than the model, or as many in fewer bytes."""
        mine, theirs = self.model.num_parameters, spec.num_parameters
        if mine != theirs:
            return mine < theirs
        one = Parallelism()
        held = weight_bytes_per_rank(self.model, one, self._formats(precision))
        return sum(held.values()) < sum(weight_bytes_per_rank(spec, one, precision).values())

    def problems(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Iterator[str]:
        """See Speculation."""
        if not same_vocabulary(spec, self.model):
            yield (
                f"{self.model.name} has a vocabulary of {self.model.vocab_size:,} tokens, "
                f"{spec.name} one of {spec.vocab_size:,}: it cannot draft for it"
            )
        elif not self._is_smaller(spec, precision):
            yield (
                f"{self.model.name} has {self.model.num_parameters / 1e9:.3g} B parameters, {spec.name} "
                f"{spec.num_parameters / 1e9:.3g} B: draft with a smaller model, or with the same in fewer bits "
                "by its `precision`"
            )
        if self.tp is not None and parallelism.tp % self.tp:
            yield f"tp {self.tp} of the draft does not divide tp {parallelism.tp}"
        yield from super().problems(spec, parallelism, precision)
