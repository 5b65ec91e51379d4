"""Measurement in, device profiles out: clustersim reads what this package writes, and never imports it.

Here stand the definitions of flops, bytes, depth and tasks, one function a family of operators, that every fit
uses (the law is in `clustersim.cost.profile`). Columns are those of aiconfigurator's tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from clustersim.cost.profile import Array
from clustersim.units import MEGA

#: Bytes of an element of the weights and of the activations read (1 where not named), scales included.
_WEIGHT_BYTES = {"bf16": 2.0, "nvfp4": 0.5625, "w4a16": 0.5, "w4a16_mxfp4": 0.53125, "w4a8_mxfp4": 0.53125}
_ACTIVATION_BYTES = {"bf16": 2.0, "nvfp4": 0.5625, "w8a16": 2.0, "w4a16": 2.0, "w4a16_mxfp4": 2.0}


class Rows(NamedTuple):
    """A table's rows as the law sees them (arrays of one length) and as they are judged."""

    flops: Array
    bytes: Array
    depth: Array
    tasks: Array
    weight: Array
    """Pull on the fit: 1 for the shapes of models."""
    headline: Array
    """Rows that the reported error is on (bool)."""
    bands: dict[str, Array]


def _columns(table: pd.DataFrame, *names: str) -> list[Array]:
    return [table[name].to_numpy(dtype=float) for name in names]


def gemm_work(table: pd.DataFrame, dtype: str) -> Rows:
    """C[m,n] = A[m,k] B[k,n]. Headline: n and k at least 1024."""
    m, n, k = _columns(table, "m", "n", "k")
    a, w = _ACTIVATION_BYTES.get(dtype, 1.0), _WEIGHT_BYTES.get(dtype, 1.0)
    large = (n >= 1024) & (k >= 1024)
    tasks = np.ceil(m / 128) * np.ceil(n / 128)
    bands = {"m <= 256": large & (m <= 256), "m >= 1024": large & (m >= 1024), "all shapes": m > 0}
    return Rows(
        2 * m * n * k, m * k * a + k * n * w + m * n * 2, k, tasks, np.where(large, 1, 0.05), large, bands
    )


def attention_prefill_work(table: pd.DataFrame, dtype: str) -> Rows:
    """Causal attention of `isl` tokens, no window. Headline: 1 GFLOP or more, head size 128."""
    b, tokens, h, kv, d = _columns(table, "batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    element = 1.0 if dtype == "fp8" else 2.0
    flops = 4 * b * h * d * tokens * (tokens + 1) / 2
    read = b * tokens * d * (h * (element + 2) + 2 * kv * element)
    common = (flops >= 1e9) & (d == 128)
    weight = np.where(flops >= 1e9, 1, 0.1) * np.where(d == 128, 1, 0.3)
    bands = {"100 GFLOP and more": common & (flops >= 1e11), "all shapes": b > 0}
    return Rows(flops, read, tokens, b * h * np.ceil(tokens / 128), weight, common, bands)


def attention_decode_work(table: pd.DataFrame, dtype: str) -> Rows:
    """One query token a sequence over step + 1 tokens. Headline: 128 tokens, 1 MB of KV or more, head size 128."""
    b, step, h, kv, d = _columns(table, "batch_size", "step", "num_heads", "num_key_value_heads", "head_dim")
    cache = b * (step + 1) * kv * d * 2 * (1.0 if dtype == "fp8" else 2.0)
    common = (step >= 127) & (cache >= MEGA) & (d == 128)
    weight = np.where(cache >= 64e6, 1, np.where(cache >= 1e6, 0.5, 0.1)) * np.where(d == 128, 1, 0.3)
    weight = weight * np.where(step >= 127, 1, 0.2)
    return Rows(
        4 * b * (step + 1) * h * d, cache + b * h * d * 4, step + 1, b * kv, weight, common, _by_cache(cache)
    )


def mla_prefill_work(table: pd.DataFrame, dtype: str) -> Rows:  # noqa: ARG001
    """Causal multi-head latent attention, not absorbed: 128 + 64 query and key, 128 value elements a head."""
    b, tokens, h = _columns(table, "batch_size", "isl", "num_heads")
    flops = 2 * b * h * tokens * (tokens + 1) / 2 * (128 + 64 + 128)
    common = flops >= 1e9
    bands = {"100 GFLOP and more": flops >= 1e11, "all shapes": b > 0}
    read = b * tokens * h * (192 + 192 + 128 + 128) * 2
    return Rows(flops, read, tokens, b * h * np.ceil(tokens / 128), np.where(common, 1, 0.1), common, bands)


def mla_decode_work(table: pd.DataFrame, dtype: str) -> Rows:
    """Absorbed latent attention: 512 + 64 elements a token, shared by all heads. Headline: 1 MB of KV or more."""
    b, step, h = _columns(table, "batch_size", "step", "num_heads")
    cache = b * (step + 1) * (512 + 64) * (1.0 if dtype == "fp8" else 2.0)
    weight = np.where(cache >= 64e6, 1, np.where(cache >= 1e6, 0.5, 0.1))
    flops = 2 * b * h * (step + 1) * (2 * 512 + 64)
    read = cache + b * h * (512 + 64 + 512) * 2
    return Rows(flops, read, step + 1, b, weight, cache >= MEGA, _by_cache(cache))


def _by_cache(cache: Array) -> dict[str, Array]:
    middle = (cache >= 1e6) & (cache < 64e6)
    return {
        "KV < 1 MB": cache < 1e6,
        "KV 1-64 MB": middle,
        "KV >= 64 MB": cache >= 64e6,
        "all shapes": cache > 0,
    }


def moe_work(table: pd.DataFrame, dtype: str) -> Rows:
    """Experts of one rank under even load, unfused: permute, gate and up, activate, down, unpermute.

    The rank sees all `tokens`, holds experts / ep experts and inter / tp of each, and works on
    rows = tokens * topk / ep over touched = min(tokens * topk, experts) / ep experts (at least one of each).
    """
    tokens, hidden, inter, topk, experts, tp, ep = _columns(
        table, "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"
    )
    matrices = np.where(table.kernel_source.str.contains("nongated"), 2.0, 3.0)
    inter = inter / tp
    rows = np.maximum(tokens * topk / ep, 1.0)
    touched = np.maximum(np.minimum(tokens * topk, experts) / ep, 1.0)
    weights = touched * matrices * hidden * inter * _WEIGHT_BYTES.get(dtype, 1.0)
    activations = 2 * (rows * (4 * hidden + 2 * matrices * inter) + 2 * tokens * hidden)
    tiles = rows / 128 * ((matrices - 1) * inter + hidden) / 128
    common = inter >= 256
    bands = {
        "tokens <= 256": common & (tokens <= 256),
        "tokens >= 1024": common & (tokens >= 1024),
        "all shapes": tokens > 0,
    }
    flops = 2 * rows * matrices * hidden * inter
    depth = np.maximum(hidden, inter)
    return Rows(flops, weights + activations, depth, tiles, np.where(common, 1, 0.3), common, bands)


class Family(NamedTuple):
    """A family's table: folder, file, the column of its data type, the rows kept, and its work."""

    folder: str
    file: str
    dtype: str
    keep: str
    work: Callable[[pd.DataFrame, str], Rows]


_EVEN = "distribution == 'balanced'"
_FULL = "window_size == 0 and attn_dtype == kv_cache_dtype"
_GROUPED = "window_size == 0 and num_heads <= 32 * num_key_value_heads"
FAMILIES = {
    "gemm": Family("gemm", "gemm_perf", "gemm_dtype", "m > 0", gemm_work),
    "attention_prefill": Family(
        "attention", "context_attention_perf", "attn_dtype", _FULL, attention_prefill_work
    ),
    "attention_decode": Family(
        "attention", "generation_attention_perf", "kv_cache_dtype", _GROUPED, attention_decode_work
    ),
    "mla_prefill": Family("mla", "context_mla_perf", "kv_cache_dtype", "isl > 0", mla_prefill_work),
    "mla_decode": Family("mla", "generation_mla_perf", "kv_cache_dtype", "step > 0", mla_decode_work),
    "moe": Family("moe", "moe_perf", "moe_dtype", _EVEN, moe_work),
}
