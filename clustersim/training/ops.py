"""The operators of one micro-batch, forward and backward, on one rank; the forward ones are the serving side's.

    forward              backward
    Y = X W (m, k, n)    dX = dY W^T (m, n, k) and dW = X^T dY (k, m, n), added to fp32 gradients: 2x the FLOP
    attention            5 products of scores or values for 2, as flash attention computes scores anew: 2.5x the
                         FLOP, at the forward kernel's efficiency (Dao, arXiv:2205.14135 and 2307.08691)
    experts              as Y = X W
    norms, rotary        the same bytes
    SwiGLU, GeLU         reads dY and its inputs, writes their gradients

fp8 products cast their inputs first: read in bf16, written by row and by column (Transformer Engine's
cast_transpose). Sequence parallelism cuts norms and embedding over tp (Korthikanti et al., arXiv:2205.05198).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clustersim.models.ops import COLLECTIVES, Family, Op, rank_ops
from clustersim.models.precision import bytes_per_element
from clustersim.models.spec import GroupedQueryAttention, ModelSpec
from clustersim.models.step import Numbers, RankShape
from clustersim.training.layout import Recipe, TrainingLayout

#: Which communication an operator is.
Group = Literal["tp", "cp", "ep"]
_BACKWARD_ATTENTION = 2.5
#: What selective recomputation does again: cheap for the memory it frees (DeepSeek-V3, arXiv:2412.19437, 3.2.3).
_LIGHT = ("_norm", "_activation", "q_up_proj", "kv_up_proj")
_ACTIVATION = 2.0  # bytes
_CAST = 2.0  # bf16 elements moved to cast one element: 2 bytes read, 2 x 1 written
#: bf16 elements moved for one logit: forward reads it, writes and reads it in fp32; backward reads fp32, writes bf16.
_CROSS_ENTROPY = (5.0, 3.0)


@dataclass(frozen=True)
class Pass:
    """The operators of all layers in one direction: computation, and what is exchanged by group."""

    compute: tuple[Op, ...]
    exchange: dict[Group, tuple[Op, ...]]


@dataclass(frozen=True)
class MicroBatchOps:
    """What a rank does for one micro-batch: all layers, the light part of them done anew, and the LM head."""

    forward: Pass
    backward: Pass
    light: Pass
    """Norms, activations and MLA's up-projections: what selective recomputation does again."""
    head: Pass
    """Final norm, LM head and loss, both directions."""


def micro_batch_ops(
    spec: ModelSpec, layout: TrainingLayout, recipe: Recipe, seq_len: int, sizes: Numbers
) -> MicroBatchOps:
    """Return the operators of micro-batches of `sizes` (n,) sequences of `seq_len` tokens, causal."""
    body, rows = _shapes(layout, seq_len, sizes)
    make = _Maker(spec, layout, recipe, body, rows, seq_len * sizes)
    forward = make.forward()
    backward = [op for each in forward for op in make.backward(each)]
    light = tuple(op for op in forward if op.name.endswith(_LIGHT))
    exchange = make.exchange()
    return MicroBatchOps(
        Pass((*forward, *make.casts(forward, grads=False)), exchange["forward"]),
        Pass((*backward, *make.casts(forward, grads=True)), exchange["backward"]),
        Pass(light, {}),
        make.head(),
    )


def _shapes(layout: TrainingLayout, seq_len: int, sizes: Numbers) -> tuple[RankShape, RankShape]:
    """Return the shapes of the layers and of the LM head; a cp rank has an even share of the causal pairs."""
    none = np.zeros_like(sizes)
    tokens = sizes * seq_len / layout.cp
    pairs = sizes * seq_len * (seq_len + 1) / 2 / layout.cp
    replica = tokens * layout.parallelism.attention_dp
    body = RankShape(none, none, tokens, pairs, sizes * seq_len, sizes, tokens, replica)
    return body, RankShape(none, none, none, none, none, tokens, none, none)


@dataclass(frozen=True)
class _Maker:
    spec: ModelSpec
    layout: TrainingLayout
    recipe: Recipe
    body: RankShape
    rows: RankShape
    keys: Numbers
    """Tokens of the whole sequences."""

    def ops(self, shape: RankShape) -> list[Op]:
        return rank_ops(self.spec, self.layout.parallelism, self.recipe.formats, shape)

    def forward(self) -> list[Op]:
        found = [op for op in self.ops(self.body) if op.varies != "rows" and op.family not in COLLECTIVES]
        return [self.cut(op) for op in found]

    def cut(self, op: Op) -> Op:
        shared = op.name in ("embedding", "input_norm", "post_attention_norm")
        return replace(op, bytes=op.bytes / self.layout.tp) if shared else op

    def head(self) -> Pass:
        found = [op for op in self.ops(self.rows) if op.name in ("final_norm", "lm_head")]
        both = found + [back for op in found for back in self.backward(op)]
        logits = self.body.tokens * -(-self.spec.vocab_size // self.layout.tp)
        loss = [_elementwise("cross_entropy", 1, logits * each) for each in _CROSS_ENTROPY]
        gather = self.sequence(2, "lm_head")
        return Pass((*both, *loss), {"tp": gather})

    # ---- backward --------------------------------------------------------------------------------------------

    def backward(self, op: Op) -> Iterator[Op]:
        if op.family == "gemm":
            yield from self.gemm(op)
        elif op.family == "moe":
            yield replace(op, name=f"{op.name}_dgrad")
            yield replace(op, name=f"{op.name}_wgrad", bytes=op.bytes + self.expert_gradients())
        elif op.family in ("attention_prefill", "mla_prefill"):
            grown = {key: getattr(op, key) * _BACKWARD_ATTENTION for key in ("flops", "bytes", "tasks")}
            yield replace(op, name=f"{op.name}_backward", **grown)
        else:
            yield replace(op, name=f"{op.name}_backward", bytes=op.bytes * self.growth(op))

    def gemm(self, op: Op) -> Iterator[Op]:
        m, n, k = self.sizes(op)
        element = self.element(op)
        add = 2 * self.recipe.gradient_bytes
        dgrad = m * n * element + n * k * element + m * k * _ACTIVATION
        wgrad = m * k * element + m * n * element + n * k * add
        yield replace(op, name=f"{op.name}_dgrad", bytes=dgrad, depth=n, tasks=_tiles(m, k))
        yield replace(op, name=f"{op.name}_wgrad", bytes=wgrad, depth=m, tasks=_tiles(k, n))

    def sizes(self, op: Op) -> tuple[Numbers, Numbers, Numbers]:
        """Return m, n, k of a matrix product, from what it varies with and its FLOP."""
        m = {"keys": self.body.prefill_keys}.get(op.varies, self.body.tokens)
        return m, op.flops / (2 * m * op.depth), op.depth

    def element(self, op: Op) -> float:
        return _ACTIVATION if op.dtype == "bf16" else bytes_per_element(self.recipe.formats.activations)

    def growth(self, op: Op) -> float:
        if not op.name.endswith("_activation"):
            return 1.0
        moe = self.spec.moe
        gated = moe.gated if moe and op.name.startswith("shared") else self.spec.gated
        return 5 / 3 if gated else 3 / 2

    def expert_gradients(self) -> float:
        """Return the bytes of adding to the gradients of one layer's experts on this rank."""
        moe = self.spec.moe
        assert moe is not None
        inner = moe.expert_intermediate_size / self.layout.parallelism.expert_tp
        held = moe.num_experts / self.layout.ep * (3 if moe.gated else 2) * self.spec.hidden_size * inner
        return 2 * self.recipe.gradient_bytes * held

    def casts(self, forward: Sequence[Op], *, grads: bool) -> Iterator[Op]:
        """Yield the casts of inputs (forward) or of gradients of outputs (backward) of narrow matrix products."""
        for op in forward:
            if op.family in ("gemm", "moe") and op.dtype != "bf16":
                yield _elementwise(f"{op.name}_cast", op.count, self.cast_elements(op, grads) * _CAST)

    def cast_elements(self, op: Op, grads: bool) -> Numbers:
        if op.family == "gemm":
            m, n, k = self.sizes(op)
            return m * (n if grads else k)
        moe, hidden = self.spec.moe, self.spec.hidden_size
        assert moe is not None
        inner = moe.expert_intermediate_size / self.layout.parallelism.expert_tp
        routed = op.flops / (2 * (3 if moe.gated else 2) * hidden * inner)
        return routed * (hidden + inner)

    # ---- communication ---------------------------------------------------------------------------------------

    def exchange(self) -> dict[str, dict[Group, tuple[Op, ...]]]:
        """Return what is exchanged in all layers, forward and backward.

        tp: an all-gather and a reduce-scatter around each block, backward too; that of saved inputs for dW hides
        behind dX (Korthikanti et al., 4.2.2). cp: keys and values gathered; backward gathers them again and
        reduces their gradients. ep: the serving side's all-to-alls, backward as forward.
        """
        moe, dense = len(self.spec.layers("moe")), len(self.spec.layers("dense"))
        spread = self.layout.parallelism.attention_dp > 1
        shared = self.spec.moe is not None and self.spec.moe.num_shared_experts > 0
        blocks = self.spec.num_layers + dense + (moe if shared or not spread else 0)
        tp = self.sequence(blocks, "block")
        ep = tuple(op for op in self.ops(self.body) if op.name.startswith("expert_") and op.ranks > 1)
        ep = tuple(op for op in ep if op.family in ("all_to_all", "all_gather", "reduce_scatter"))
        layers, message = self.spec.num_layers, self.keys * self.cached_bytes()
        gather = self.collective("cp_gather", "all_gather", layers, message, self.layout.cp, self.layout.tp)
        reduce_ = replace(gather, name="cp_reduce", family="reduce_scatter")
        cp = (gather,) if self.layout.cp > 1 else ()
        back = (gather, reduce_) if self.layout.cp > 1 else ()
        return {"forward": {"tp": tp, "cp": cp, "ep": ep}, "backward": {"tp": tp, "cp": back, "ep": ep}}

    def cached_bytes(self) -> float:
        """Return the bytes of a token's keys and values of one layer on a tp rank (MLA: its latent)."""
        attention = self.spec.attention
        if isinstance(attention, GroupedQueryAttention):
            heads = max(1, attention.num_kv_heads // self.layout.tp)
            return 2 * heads * attention.head_dim * _ACTIVATION
        return attention.kv_elements * _ACTIVATION

    def sequence(self, count: int, name: str) -> tuple[Op, ...]:
        """Return `count` pairs of all-gather and reduce-scatter of a micro-batch's activations over tp."""
        if self.layout.tp == 1:
            return ()
        message = self.body.tokens * self.spec.hidden_size * _ACTIVATION
        families: tuple[Family, ...] = ("all_gather", "reduce_scatter")
        return tuple(
            self.collective(f"{name}_{family}", family, count, message, self.layout.tp, 1)
            for family in families
        )

    def collective(
        self, name: str, family: Family, count: int, message: Numbers, ranks: int, stride: int
    ) -> Op:
        return Op(name, family, "bf16", count, message_bytes=message, ranks=ranks, stride=stride)


def _elementwise(name: str, count: int, elements: Numbers) -> Op:
    return Op(name, "elementwise", "bf16", count, bytes=elements * _ACTIVATION)


def _tiles(m: Numbers, n: Numbers) -> Numbers:
    tiles: Numbers = np.ceil(m / 128) * np.ceil(n / 128)
    return tiles
