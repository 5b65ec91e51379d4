"""Speculative decoding: who drafts tokens that the model then verifies, all in one step. One file a kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from clustersim.kinds import Part
from clustersim.models.layout import (
    Parallelism,
    check_layout,
    kv_bytes_per_token_per_rank,
    weight_bytes_per_rank,
)
from clustersim.models.precision import Precision, TensorKind
from clustersim.models.spec import GroupedQueryAttention, ModelSpec

#: Vocabularies whose sizes differ by less are one, padded in two ways (Qwen2.5: 151,936 and 152,064).
_PADDING_FRAC = 0.01


@dataclass(frozen=True)
class Draft:
    """The model that drafts, on the ranks of the model that verifies: each rank of its attention alone."""

    spec: ModelSpec
    parallelism: Parallelism
    precision: Precision
    first_queries: int
    """Tokens of a sequence in the first pass of a step; the others have one."""
    shared: frozenset[TensorKind] = frozenset()
    """Weights that it uses and the other model holds."""

    @property
    def weights_bytes(self) -> float:
        """Weights of its own on one rank."""
        held = weight_bytes_per_rank(self.spec, self.parallelism, self.precision)
        return sum(size for kind, size in held.items() if kind not in self.shared)

    @property
    def kv_bytes_per_token(self) -> float:
        """KV of one token on one rank in the layers that keep all of it."""
        return kv_bytes_per_token_per_rank(self.spec, self.parallelism, self.precision)[0]

    @property
    def window_bytes_per_seq(self) -> float:
        """KV of one sequence on one rank in sliding-window layers."""
        _, each, window = kv_bytes_per_token_per_rank(self.spec, self.parallelism, self.precision)
        return each * (window or 0)


def _probabilities(value: object) -> object:
    each = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p <= 1 for p in each):
        raise PydanticCustomError(
            "acceptance", "wants a probability from 0 to 1, or a list with one for each draft"
        )
    return tuple(each) if isinstance(value, list) else value


Acceptance = Annotated[
    float | tuple[float, ...], BeforeValidator(_probabilities, json_schema_input_type=float | list[float])
]


class Speculation(Part):
    """Base of the kinds of speculation: drafts of each sequence in turn, verified together.

    With a_i the acceptance, a step gives 1 + a_1 + a_1 a_2 + ... tokens a sequence (Leviathan, Kalman and Matias,
    ICML 2023, arXiv:2211.17192).
    """

    num_draft_tokens: int = Field(ge=0, le=64, strict=True)
    """Drafts of one sequence in one step; 0 for plain decoding."""
    acceptance: Acceptance
    """Probability that draft i is accepted where the one before it was: one for all, or a list of one for each."""

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        given = self.acceptance
        if isinstance(given, tuple) and len(given) != self.num_draft_tokens:
            raise ValueError(
                f"acceptance has {len(given)} probabilities for {self.num_draft_tokens} draft tokens"
            )
        return self

    @property
    def queries(self) -> int:
        """Tokens of one sequence in a step that verifies: its last token and the drafts after it."""
        return self.num_draft_tokens + 1

    @property
    def tokens_per_step(self) -> float:
        """Expected tokens of one sequence from one step."""
        given = self.acceptance
        each = given if isinstance(given, tuple) else (given,) * self.num_draft_tokens
        return 1.0 + float(np.cumprod(each).sum())

    @abstractmethod
    def draft(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Draft | None:
        """Return what drafts for a model that is laid out so; None where no accelerator works for it."""

    def at_work(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Draft | None:
        """Return what drafts; None also where there are no drafts to make."""
        return self.draft(spec, parallelism, precision) if self.num_draft_tokens else None

    @property
    def sequence_host_s(self) -> float:
        """What the host adds to a step for each decoding sequence of a rank, while the device waits."""
        return 0.0

    def problems(self, spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> Iterator[str]:
        """Yield why this cannot draft for a model that is laid out so."""
        draft = self.draft(spec, parallelism, precision)
        if draft is None:
            return
        if parallelism.pp > 1:
            yield (
                f"{self.kind} drafts behind the last of {parallelism.pp} pipeline stages, which is not modelled; "
                "use pp: 1, or speculation: {kind: ngram, ...}"
            )
        own = draft.parallelism if draft.spec.moe else Parallelism(tp=draft.parallelism.tp)
        for what in check_layout(draft.spec, own, draft.precision):
            yield f"the draft {draft.spec.name} cannot be laid out: {what}"


def module_of(spec: ModelSpec, name: str, **changes: object) -> ModelSpec:
    """Return one layer of a model, the last one's kind, with its embedding and head and full attention."""
    attention, moe = spec.attention, spec.moe
    if isinstance(attention, GroupedQueryAttention):
        attention = attention.model_copy(update={"sliding_window": None, "window_pattern": ()})
    if moe is not None:
        last = spec.has_experts(spec.num_layers - 1)
        moe = moe.model_copy(update={"num_dense_layers": 0, "every": 1}) if last else None
    update = {"name": f"{spec.name} {name}", "num_layers": 1, "attention": attention, "moe": moe}
    return spec.model_copy(update={**update, **changes})


def same_vocabulary(spec: ModelSpec, draft: ModelSpec) -> bool:
    """Say whether two models may share a tokeniser, as far as the sizes of their vocabularies tell."""
    return abs(draft.vocab_size / spec.vocab_size - 1) < _PADDING_FRAC
