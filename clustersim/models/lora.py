"""LoRA adapters: what an engine that serves several of them at once holds and computes beside its model.

An adapter adds to each target matrix W (d_in x d_out) a product A B of rank r (Hu et al., arXiv:2106.09685): r (d_in +
d_out) parameters. Engines keep a fixed number of them on the accelerators, in slots of the largest rank, and multiply
every token by those of its own in two grouped products a group of matrices, "shrink" by A and "expand" by B (Punica,
arXiv:2310.18547; S-LoRA, arXiv:2311.03285; vLLM's vllm/lora/ops/triton_ops).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from clustersim.kinds import Value
from clustersim.models.layout import Parallelism, stages
from clustersim.models.ops import Op, Piece
from clustersim.models.precision import Precision, bytes_per_element
from clustersim.models.spec import Count, GroupedQueryAttention, ModelSpec
from clustersim.models.step import RankShape


class Lora(Value):
    """LoRA adapters that a deployment serves beside its model."""

    rank: Count = 16
    """Rank of the adapters, and of the slots (vLLM's `max_lora_rank`, and its default)."""
    max_loras: Count = 1
    """Slots: different adapters in a batch at most (vLLM's `max_loras`, and its default)."""
    targets: Literal["attention", "linear"] = "linear"
    """Which matrices adapters change: projections of attention, or those and dense MLPs. Routed and shared experts have
    none."""


class Group(NamedTuple):
    """Matrices of a layer with one input, `slices` of them, on one tensor-parallel rank.

    d_in, d_out: columns in and, of all slices together, out, on the rank. As in vLLM without `fully_sharded_loras`: of
    a matrix whose output is cut, A is whole on each rank and B cut; of one whose input is cut, A is cut and B whole.
    """

    name: str
    d_in: float
    d_out: float
    slices: int
    layers: tuple[int, ...]
    piece: Piece

    def params(self, rank: int) -> float:
        """Return the parameters of one adapter in one layer."""
        return rank * (self.slices * self.d_in + self.d_out)


def groups(spec: ModelSpec, lora: Lora, tp: int = 1) -> list[Group]:
    """Return the groups of matrices that adapters change, as one of tp ranks has them.

    Of latent attention (MLA) the product that decoding absorbs, kv_b, has none.
    """
    hidden, attention, every = spec.hidden_size, spec.attention, tuple(range(spec.num_layers))
    found = []
    if isinstance(attention, GroupedQueryAttention):
        width = attention.num_heads * attention.head_dim / tp
        keys = max(1.0, attention.num_kv_heads / tp) * attention.head_dim
        found.append(Group("qkv", hidden, width + 2 * keys, 3, every, "attention"))
    else:
        queries = attention.num_heads * (attention.qk_nope_head_dim + attention.qk_rope_head_dim) / tp
        width = attention.num_heads * attention.v_head_dim / tp
        down, low = attention.kv_elements, attention.q_lora_rank
        if low:
            found.append(Group("qkv_down", hidden, low + down, 2, every, "attention"))
            found.append(Group("q_up", low, queries, 1, every, "attention"))
        else:
            found.append(Group("qkv_down", hidden, queries + down, 2, every, "attention"))
    found.append(Group("o", width, hidden, 1, every, "attention"))
    dense = tuple(layer for layer in every if not spec.has_experts(layer))
    if lora.targets == "linear" and dense:
        inner, ups = (spec.intermediate_size or 0) / tp, 2 if spec.gated else 1
        found.append(Group("mlp_up", hidden, ups * inner, ups, dense, "rest"))
        found.append(Group("mlp_down", inner, hidden, 1, dense, "rest"))
    return found


def adapter_bytes_per_rank(
    spec: ModelSpec, parallelism: Parallelism, precision: Precision, lora: Lora
) -> float:
    """Return the bytes of one adapter on one rank of the pipeline stage that has most of it."""
    each = bytes_per_element(precision.unquantised)
    parts = groups(spec, lora, parallelism.tp)
    return max(
        sum(part.params(lora.rank) * sum(layer in layers for layer in part.layers) for part in parts) * each
        for layers in stages(spec, parallelism)
    )


def num_tensors(spec: ModelSpec, parallelism: Parallelism, lora: Lora) -> int:
    """Return the matrices of one adapter on a rank of the longest pipeline stage: an A and a B a slice and layer."""
    parts = groups(spec, lora, parallelism.tp)
    return max(
        sum(2 * part.slices * sum(layer in layers for layer in part.layers) for part in parts)
        for layers in stages(spec, parallelism)
    )


def lora_ops(
    spec: ModelSpec, parallelism: Parallelism, precision: Precision, lora: Lora, shape: RankShape
) -> Iterator[Op]:
    """Yield the products that adapters add to a micro-batch of a rank.

    An upper estimate: every token is taken to have an adapter, and as many are in use as there are slots, or tokens. Of
    an MLP's two halves of "up" and of queries, keys and values each is a slice of one launch.
    """
    tokens, rank = shape.tokens, lora.rank
    each = bytes_per_element(precision.unquantised)
    used = np.minimum(tokens, lora.max_loras)
    for part in groups(spec, lora, parallelism.tp):
        low = rank * part.slices
        for name, k, n, params in (
            ("shrink", part.d_in, low, rank * part.slices * part.d_in),
            ("expand", rank, part.d_out, rank * part.d_out),
        ):
            inputs = low if name == "expand" else part.d_in
            moved = np.where(tokens > 0, tokens * (inputs + n) * each + used * params * each, 0.0)
            flops = 2.0 * tokens * params
            tiles = np.ceil(tokens / 128) * np.ceil(n / 128)
            yield Op(
                f"lora_{part.name}_{name}", "gemm", "bf16", len(part.layers), "tokens", flops, moved,
                np.full_like(tokens, k), tiles, piece=part.piece,
                shape=f"rank {rank}, {part.d_in:.0f} x {part.d_out:.0f}",
            )  # fmt: skip
