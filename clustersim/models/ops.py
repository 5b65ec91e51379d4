"""The operators of one engine step on the busiest rank: their FLOP, bytes, messages and kernel launches.

FLOP and bytes are those of the mathematics, without any device in it: a matrix product of m x k by k x n does
2mnk FLOP and moves its two operands and its result once. Counts are per step: layers times calls in a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from clustersim.models.attention import attention_kernels
from clustersim.models.exchange import Fanout, dispatch_bytes, fanout
from clustersim.models.layout import Parallelism
from clustersim.models.placement import Placement, place
from clustersim.models.popularity import Popularity
from clustersim.models.popularity.even import Even
from clustersim.models.precision import Precision, TensorKind, bytes_per_element, compute_dtype
from clustersim.models.spec import GroupedQueryAttention, ModelSpec, MultiHeadLatentAttention
from clustersim.models.step import Numbers, RankShape, StepShape, rank_shape

Family = Literal[
    "gemm", "attention_prefill", "attention_decode", "mla_prefill", "mla_decode", "moe", "elementwise",
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send",
]  # fmt: skip
#: What an operator's work depends on: tokens of the rank, its rows of logits, tokens of all data-parallel ranks,
#: keys that prefill reads, the shape of the prefill, or that of the decode batch.
Varies = Literal["tokens", "rows", "replica_tokens", "keys", "prefill", "decode"]
#: What of a layer with experts an operator belongs to, where a step may run in two halves; "rest" is in no such layer.
Piece = Literal["attention", "dispatch", "experts", "combine", "rest"]
#: Families that move messages between ranks instead of working on one.
COLLECTIVES = frozenset({"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"})
_ZERO = np.zeros(())
EVEN = Even()


@dataclass(frozen=True)
class Op:
    """One operator. Numbers are per call and may be arrays; `count` calls follow each other in a step.

    dtype is the type it multiplies in (GEMM, MoE) or the type of the cache it reads (attention). A collective has
    message_bytes (the buffer of one rank) and ranks, with `stride` ranks between neighbours, instead of FLOP.
    """

    name: str
    family: Family
    dtype: str
    count: int
    varies: Varies = "tokens"
    flops: Numbers = field(default_factory=lambda: _ZERO)
    bytes: Numbers = field(default_factory=lambda: _ZERO)
    depth: Numbers = field(default_factory=lambda: _ZERO)
    """Longest chain of dependent steps: elements of k in a matrix product, tokens of context in attention."""
    tasks: Numbers = field(default_factory=lambda: _ZERO)
    """Blocks of work that can run side by side: 128 x 128 tiles, heads."""
    message_bytes: Numbers = field(default_factory=lambda: _ZERO)
    ranks: int = 1
    stride: int = 1
    fanout: Fanout | None = None
    """Where tokens go, of an exchange by kernels that know of nodes; message_bytes are then those delivered."""
    kernel: str = ""
    """Which of an elementwise family's kernels it is, as measured rows name it ("norm"); empty in other families."""
    piece: Piece = "rest"
    shape: str = ""
    """Sizes in words for a person."""


def step_ops(
    spec: ModelSpec, parallelism: Parallelism, precision: Precision, shape: StepShape, imbalance: float = 1.0,
    popularity: Popularity = EVEN,
) -> list[Op]:  # fmt: skip
    """Return the operators of one step on its busiest rank; see `rank_ops`."""
    return rank_ops(spec, parallelism, precision, rank_shape(shape, parallelism), imbalance, popularity)


def rank_ops(
    spec: ModelSpec, parallelism: Parallelism, precision: Precision, shape: RankShape, imbalance: float = 1.0,
    popularity: Popularity = EVEN,
) -> list[Op]:  # fmt: skip
    """Return the operators of a rank's micro-batch in the order of the forward pass, those without work left out.

    `imbalance` is the load of the busiest expert rank over the mean, beyond what chance and `popularity` give.
    """
    build = _Builder(spec, parallelism, precision, shape, imbalance, popularity)
    return [op for op in build.forward() if np.any(op.flops + op.bytes + op.message_bytes > 0)]


class _Builder:
    def __init__(
        self, spec: ModelSpec, layout: Parallelism, precision: Precision, shape: RankShape, imbalance: float,
        popularity: Popularity,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.layout = layout
        self.precision = precision
        self.shape = shape
        self.imbalance = imbalance
        self.popularity = popularity
        self.hidden = spec.hidden_size
        self.kv_bytes = bytes_per_element(precision.kv_cache)
        self.element = bytes_per_element(precision.unquantised)  # of what passes between operators
        self.stage_ranks = layout.tp * layout.attention_dp

    def forward(self) -> Iterator[Op]:
        spec, shape, tp = self.spec, self.shape, self.layout.tp
        tokens, hidden = shape.tokens, self.hidden
        dense, moe = len(spec.layers("dense")), len(spec.layers("moe"))
        yield self.elementwise("embedding", "embedding", 1, tokens * hidden * 2)
        if spec.num_input_states > 1:
            yield self.gemm("input_proj", "attention", 1, tokens, hidden, spec.num_input_states * hidden)
        yield from _part("attention", self.attention())
        if dense:
            yield from self.mlp("mlp", "mlp", dense, spec.intermediate_size or 0, spec.gated)
            yield self.all_reduce("mlp_all_reduce", dense, tokens)
        if moe:
            yield from _part("experts", self.experts(moe))
        yield self.elementwise("final_norm", "norm", 1, shape.rows * hidden * 4, "rows")
        vocab = -(-spec.vocab_size // tp)
        yield self.gemm("lm_head", "lm_head", 1, shape.rows, vocab, hidden, "rows")
        logits = shape.rows * spec.vocab_size
        yield self.collective("logits_gather", "all_gather", 1, logits * self.element, tp, 1, "rows")
        # Softmax, top-k/top-p and the draw read the fp32 logits about three times.
        yield self.elementwise("sampling", "sampling", 1, logits * 6, "rows")
        if self.layout.pp > 1:
            message = tokens * hidden * self.element
            yield self.collective("stage_send", "send", self.layout.pp, message, 2, self.stage_ranks)

    # ---- attention -------------------------------------------------------------------------------------------

    def attention(self) -> Iterator[Op]:
        """All of a layer but its MLP or experts."""
        spec, tokens = self.spec, self.shape.tokens
        yield self.elementwise("input_norm", "norm", spec.num_layers, tokens * self.hidden * 4)
        if isinstance(spec.attention, GroupedQueryAttention):
            yield from self.grouped_query(spec.attention)
        else:
            yield from self.latent(spec.attention)
        yield self.all_reduce("attention_all_reduce", spec.num_layers, tokens)
        yield self.elementwise("post_attention_norm", "norm", spec.num_layers, tokens * self.hidden * 4)

    def grouped_query(self, attention: GroupedQueryAttention) -> Iterator[Op]:
        layers, tokens, tp = self.spec.num_layers, self.shape.tokens, self.layout.tp
        width = attention.num_heads // tp * attention.head_dim
        kv_width = max(1, attention.num_kv_heads // tp) * attention.head_dim
        yield self.gemm("qkv_proj", "attention", layers, tokens, width + 2 * kv_width, self.hidden)
        yield self.elementwise(
            "rope_and_kv_write", "rope_and_kv_write", layers, tokens * ((width + kv_width) * 2 + kv_width * 3)
        )
        yield from self.attend()
        yield self.gemm("o_proj", "attention", layers, tokens, self.hidden, width)

    def latent(self, attention: MultiHeadLatentAttention) -> Iterator[Op]:
        layers, tokens = self.spec.num_layers, self.shape.tokens
        heads, rank, rope = (
            attention.num_heads // self.layout.tp,
            attention.kv_lora_rank,
            attention.qk_rope_head_dim,
        )
        nope, value, q_rank = attention.qk_nope_head_dim, attention.v_head_dim, attention.q_lora_rank or 0
        yield self.gemm("qkv_down_proj", "attention", layers, tokens, q_rank + rank + rope, self.hidden)
        yield self.gemm(
            "q_up_proj", "attention", layers, tokens, heads * (nope + rope), q_rank or self.hidden
        )
        yield self.elementwise(
            "rope_and_kv_write", "rope_and_kv_write", layers, tokens * (heads * rope * 2 + (rank + rope) * 3)
        )
        keys = self.shape.prefill_keys
        yield self.gemm("kv_up_proj", "attention", layers, keys, heads * (nope + value), rank, "keys")
        queries = self.shape.decode_tokens
        yield self.gemm("absorb_q", "attention", layers, queries, heads * rank, nope, "decode")
        yield from self.attend()
        yield self.gemm("absorb_v", "attention", layers, queries, heads * value, rank, "decode")
        yield self.gemm("o_proj", "attention", layers, tokens, self.hidden, heads * value)

    def attend(self) -> Iterator[Op]:
        shape = self.shape
        prefill, decode = attention_kernels(self.spec, self.layout, self.precision)
        sequences = np.maximum(shape.rows - shape.decode_tokens, 1)
        for kernel in prefill:
            work = kernel.work(shape.prefill_tokens, shape.prefill_pairs, shape.prefill_keys, sequences)
            yield Op(kernel.name, kernel.family, kernel.dtype, kernel.layers, "prefill", *work,
                     shape=_say(shape.prefill_tokens, "queries"))  # fmt: skip
        for decoding in decode:
            work = decoding.work(shape.decode_seqs, shape.decode_context, shape.queries)
            yield Op(decoding.name, decoding.family, decoding.dtype, decoding.layers, "decode", *work,
                     shape=_say(shape.decode_seqs, "seqs"))  # fmt: skip

    # ---- feed-forward ----------------------------------------------------------------------------------------

    def mlp(self, name: str, kind: TensorKind, layers: int, width: int, gated: bool) -> Iterator[Op]:
        """Two matrix products around an activation, cut over TP; under attention DP each rank does its own tokens."""
        tokens, width = self.shape.tokens, -(-width // self.layout.tp)
        ups = 2 if gated else 1
        yield self.gemm(f"{name}_up", kind, layers, tokens, ups * width, self.hidden)
        yield self.elementwise(f"{name}_activation", "activation", layers, tokens * width * (ups + 1))
        yield self.gemm(f"{name}_down", kind, layers, tokens, self.hidden, width)

    def experts(self, layers: int) -> Iterator[Op]:
        """Route, exchange tokens, the grouped products of the experts on this rank, exchange back."""
        moe, layout, shape = self.spec.moe, self.layout, self.shape
        assert moe is not None
        tokens, hidden, ranks = shape.tokens, self.hidden, self.stage_ranks
        router = self.gemm("router", "router", layers, tokens, moe.num_experts, hidden)
        top_k = self.elementwise("top_k", "top_k", layers, tokens * moe.num_experts * 2)
        yield from (replace(router, piece="attention"), replace(top_k, piece="attention"))
        placed = self.placement()
        if layout.attention_dp > 1:
            yield self.exchange("dispatch", layers, placed)
        mean = shape.replica_tokens * moe.top_k / layout.ep
        busiest = np.minimum(
            expected_maximum(mean, layout.ep) * self.imbalance * placed.busiest_over_mean,
            shape.replica_tokens * moe.top_k,
        )
        width = -(-moe.expert_intermediate_size * layout.ep // ranks)
        touched = placed.touched(shape.replica_tokens, moe.top_k)
        touched = np.minimum(touched, busiest)
        matrices = 3 if moe.gated else 2
        weight = bytes_per_element(self.precision.format_of("expert"))
        # Permuting the tokens to their experts and back is part of the operator.
        own_tokens = shape.replica_tokens / layout.attention_dp
        elements = busiest * (4 * hidden + 2 * matrices * width) + 2 * own_tokens * hidden
        moved = touched * matrices * hidden * width * weight + elements * self.element
        tiles = busiest / 128 * ((matrices - 1) * width + hidden) / 128
        yield Op("experts", "moe", self.dtype("expert"), layers, "replica_tokens",
                 2 * busiest * matrices * hidden * width, moved, np.full_like(busiest, max(hidden, width)), tiles,
                 shape=_say(busiest, f"x {matrices} x {hidden} x {width}"))  # fmt: skip
        if layout.attention_dp > 1:
            yield self.exchange("combine", layers, placed)
        if moe.num_shared_experts:
            shared = moe.num_shared_experts * moe.shared_intermediate_size
            yield from self.mlp("shared_expert", "shared_expert", layers, shared, moe.gated)
        yield self.all_reduce("expert_all_reduce", layers, tokens)

    def placement(self) -> Placement:
        """Where the experts lie, and what their popularity leaves to the busiest rank."""
        moe, layout = self.spec.moe, self.layout
        assert moe is not None
        shares = self.popularity.shares(moe.num_experts, moe.top_k)
        return place(shares, layout.ep, layout.redundant_experts)

    def exchange(self, name: Literal["dispatch", "combine"], layers: int, placed: Placement) -> Op:
        """Tokens go to the ranks of their experts and back: all-to-all under EP, gather and scatter without."""
        moe, layout, shape, to = self.spec.moe, self.layout, self.shape, None
        assert moe is not None
        family: Family = "all_to_all"
        activations, own = bytes_per_element(self.precision.activations), self.hidden * self.element
        token = self.hidden * activations if name == "dispatch" else own
        # TP ranks share the sending.
        own_tokens = np.ceil(shape.replica_tokens / layout.attention_dp) / layout.tp
        if layout.ep == 1:
            family = "all_gather" if name == "dispatch" else "reduce_scatter"
            message = shape.replica_tokens * token
        elif layout.all_to_all == "direct":
            # A token is sent once to each group that holds one of its experts.
            copies = layout.ep * -np.expm1(moe.top_k * np.log1p(-1 / layout.ep))
            message = own_tokens * copies * layout.expert_tp * token
        else:
            to = fanout(moe, layout)
            token = dispatch_bytes(self.precision, self.hidden) if name == "dispatch" else own
            # The busiest rank takes in, and gives back, what its share of the experts draws.
            most = min(self.imbalance * placed.busiest_over_mean, layout.ep)
            message = own_tokens * to.routes(1).delivered * most * token
        op = self.collective(f"expert_{name}", family, layers, message, self.stage_ranks, 1, "replica_tokens")
        return replace(op, fanout=to, piece=name)

    # ---- kinds of operators ----------------------------------------------------------------------------------

    def gemm(
        self, name: str, kind: TensorKind, count: int, m: Numbers, n: int, k: int, varies: Varies = "tokens"
    ) -> Op:
        quantised = self.precision.format_of(kind)
        weight = bytes_per_element(quantised)
        same = quantised == self.precision.weights
        operand = bytes_per_element(self.precision.activations) if same else self.element
        moved = np.where(m > 0, m * k * operand + n * k * weight + m * n * self.element, 0.0)
        tiles = np.ceil(m / 128) * np.ceil(n / 128)
        return Op(name, "gemm", self.dtype(kind), count, varies, 2 * m * n * k, moved, np.full_like(m, k), tiles,
                  shape=_say(m, f"x {k} x {n}"))  # fmt: skip

    def dtype(self, kind: TensorKind) -> str:
        """Return the kind of kernel that multiplies the matrices of a tensor kind, as profiles name them."""
        weights = self.precision.format_of(kind)
        if weights == "mxfp4" and self.precision.activations == "fp8":
            return "w4a8_mxfp4"
        if weights != self.precision.weights:
            return compute_dtype(weights)
        if compute_dtype(weights, self.precision.activations) == "bf16" and weights not in ("bf16", "fp16"):
            return (
                "w4a16_mxfp4" if weights == "mxfp4" else "w4a16" if weights.endswith(("4", "32")) else "w8a16"
            )
        return (
            "fp8_block" if weights == "fp8_block" else str(compute_dtype(weights, self.precision.activations))
        )

    def elementwise(
        self, name: str, kernel: str, count: int, elements: Numbers, varies: Varies = "tokens"
    ) -> Op:
        return Op(name, "elementwise", "bf16", count, varies, bytes=elements * self.element, kernel=kernel)

    def all_reduce(self, name: str, count: int, tokens: Numbers) -> Op:
        return self.collective(
            name, "all_reduce", count, tokens * self.hidden * self.element, self.layout.tp, 1
        )

    def collective(
        self, name: str, family: Family, count: int, message: Numbers, ranks: int, stride: int,
        varies: Varies = "tokens",
    ) -> Op:  # fmt: skip
        message = message if ranks > 1 else np.zeros_like(message)
        return Op(name, family, "bf16", count, varies, message_bytes=message, ranks=ranks, stride=stride,
                  shape=f"{ranks} ranks")  # fmt: skip


def expected_maximum(mean: Numbers, bins: int) -> Numbers:
    """Return the expected load of the fullest of `bins` bins at `mean` balls each, thrown at random.

    mean + sqrt(2 mean ln bins), the heavy-load limit (Raab and Steger 1998, "Balls into bins", theorem 1).
    """
    if bins == 1:
        return mean
    maximum: Numbers = mean + np.sqrt(2 * mean * np.log(bins))
    return maximum


def _part(piece: Piece, ops: Iterator[Op]) -> Iterator[Op]:
    """Yield operators as parts of a piece of the layer, those that say a piece themselves as they are."""
    return (replace(op, piece=piece) if op.piece == "rest" else op for op in ops)


def _say(m: Numbers, rest: str) -> str:
    return f"{float(m):.0f} {rest}" if np.ndim(m) == 0 else rest
