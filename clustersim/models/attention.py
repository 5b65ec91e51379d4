"""Attention kernels: the FLOP and bytes of scores and values, apart from the projections around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from clustersim.models.layout import Parallelism
from clustersim.models.precision import Precision, bytes_per_element
from clustersim.models.spec import GroupedQueryAttention, ModelSpec
from clustersim.models.step import Numbers

N = TypeVar("N", float, Numbers)

#: Format of the cache -> type of the kernel that reads it, where they differ. Integers and 4-bit floats are taken to be
#: widened to bf16 as they are read; no profile has such kernels, so decode takes fp8's time a byte (`Profile.fit`).
_WIDENED = {"int8": "w8a16", "int4": "w4a16", "nvfp4": "w4a16", "mxfp4": "w4a16"}


@dataclass(frozen=True)
class PrefillKernel:
    """Attention of prompt chunks in `layers` layers; linear in query-key pairs, queries and keys."""

    name: str
    family: Literal["attention_prefill", "mla_prefill"]
    dtype: str
    layers: int
    heads: int
    flops_per_pair: float
    bytes_per_query: float
    bytes_per_key: float
    window: int | None = None

    def work(self, queries: N, pairs: N, keys: N, sequences: N) -> tuple[N, N, N, N]:
        """Return FLOP, bytes, depth (keys of the mean sequence) and tasks (blocks of 128 queries of a head)."""
        if self.window is not None:
            pairs = _least(pairs, queries * self.window)
            keys = _least(keys, queries + sequences * self.window)
        moved = queries * self.bytes_per_query + keys * self.bytes_per_key
        return pairs * self.flops_per_pair, moved, keys / sequences, self.heads * -(-queries // 128)


@dataclass(frozen=True)
class DecodeKernel:
    """Attention of the new tokens of decoding sequences in `layers` layers; linear in context and sequences."""

    name: str
    family: Literal["attention_decode", "mla_decode"]
    dtype: str
    layers: int
    blocks: int
    """Blocks of work a sequence: its KV heads."""
    flops_per_token: float
    bytes_per_token: float
    bytes_per_query: float
    window: int | None = None

    def work(
        self, seqs: Numbers, context: Numbers, queries: Numbers
    ) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Return FLOP, bytes, depth (tokens of the mean sequence) and tasks.

        The first of a sequence's `queries` attends to its context, each other to one token more; all read it once.
        """
        more = queries - 1
        pairs, keys = queries * (context + seqs * more / 2), context + seqs * more
        if self.window is not None:
            pairs = np.minimum(pairs, seqs * queries * self.window)
            keys = np.minimum(keys, seqs * (self.window + more))
        moved = keys * self.bytes_per_token + seqs * queries * self.bytes_per_query
        return pairs * self.flops_per_token, moved, keys / np.maximum(seqs, 1), seqs * self.blocks


def _least(a: N, b: N) -> N:
    return min(a, b) if isinstance(a, float) else np.minimum(a, b)


def attention_kernels(
    spec: ModelSpec, layout: Parallelism, precision: Precision
) -> tuple[list[PrefillKernel], list[DecodeKernel]]:
    """Return the prefill and decode kernels of a model on one rank, full and windowed layers apart."""
    element = bytes_per_element(precision.kv_cache)
    cache = _WIDENED.get(precision.kv_cache, precision.kv_cache)
    activation = bytes_per_element(precision.unquantised)
    attention = spec.attention
    heads = attention.num_heads // layout.tp
    if not isinstance(attention, GroupedQueryAttention):
        # Prefill expands the latent to full heads; decode works on the latent itself, its expansion absorbed
        # into the projections (DeepSeek-V2, arXiv:2405.04434, section 2.1.2).
        rank, rope = attention.kv_lora_rank, attention.qk_rope_head_dim
        expanded = attention.qk_nope_head_dim + rope + attention.v_head_dim
        wide = heads * expanded * activation
        prefill = PrefillKernel("attention_prefill", "mla_prefill", cache, spec.num_layers, heads,
                                2.0 * heads * expanded, wide, wide)  # fmt: skip
        decode = DecodeKernel("attention_decode", "mla_decode", cache, spec.num_layers, 1,
                              2.0 * heads * (2 * rank + rope), (rank + rope) * element,
                              heads * (2 * rank + rope) * activation)  # fmt: skip
        return [prefill], [decode]
    kv_heads = max(1, attention.num_kv_heads // layout.tp)
    width, kv_bytes = heads * attention.head_dim, 2 * kv_heads * attention.head_dim * element
    windowed = spec.num_window_layers
    groups = [
        ("attention", spec.num_layers - windowed, None),
        ("window_attention", windowed, attention.sliding_window),
    ]
    present = [group for group in groups if group[1]]
    return (
        [PrefillKernel(f"{name}_prefill", "attention_prefill", cache, layers, heads, 4.0 * width,
                       2 * width * activation, kv_bytes, window) for name, layers, window in present],
        [DecodeKernel(f"{name}_decode", "attention_decode", cache, layers, kv_heads, 4.0 * width, kv_bytes,
                      2 * width * activation, window) for name, layers, window in present],
    )  # fmt: skip
