"""Operators of a decoder as an engine on torch would call them; on a GPU the fused ones of `kernels` come first.

h query and v KV heads of size d; P pages of `page` tokens; T tokens. Sizes stand in brackets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@cache
def kernel(name: str) -> Any:
    """Return a kernel of the package `kernels`, None where it or Triton is missing."""
    try:
        from kernels import KERNELS

        return KERNELS[name]
    except ImportError:
        return None


def _fused(name: str, x: Tensor) -> Any:
    """Return the kernel's module for an operand on a GPU, else None."""
    found = kernel(name) if x.is_cuda else None
    if found is None:
        return None
    from importlib import import_module

    return import_module(f"kernels.{name}")


def causal_mask(tokens: int, past: int, like: Tensor) -> Any:
    """Return what tells scaled_dot_product_attention that query i sees keys up to past + i; None if past is 0."""
    if not past:
        return None
    if like.is_cuda:
        from torch.nn.attention.bias import causal_lower_right

        return causal_lower_right(tokens, past + tokens)
    return like.new_full((tokens, past + tokens), -math.inf).triu_(past + 1)


def prefill_attention(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """Return causal attention [1, h, T, d] of q [1, h, T, d] over k, v [1, v, past + T, d]; mask from `causal_mask`."""
    import torch.nn.functional as f

    return f.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)


def add_norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return RMSNorm(x + residual) * weight, and the sum, all [T, hidden] (arXiv:1910.07467, eq. 4)."""
    import torch
    import torch.nn.functional as f

    if fused := _fused("rmsnorm", x):
        inputs = fused.Inputs(x, residual, weight, torch.empty_like(x), torch.empty_like(x))
        fused.launch(inputs)
        return inputs.y, inputs.total
    total = x + residual
    return f.rms_norm(total, weight.shape, weight, 1e-6), total


def rope_tables(positions: Tensor, size: int, dtype: Any) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [T, 1, d / 2] at the positions [T] (arXiv:2104.09864, base 10000)."""
    import torch

    rates = 10000.0 ** (-torch.arange(0, size, 2, device=positions.device) / size)
    angles = positions[:, None, None] * rates
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rope(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Return x [T, heads, d] rotated by its positions, halves paired as Llama's checkpoints have them."""
    import torch

    (first, second), (cos, sin) = x.chunk(2, -1), tables
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def kv_write(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, pages: Tensor, offsets: Tensor) -> None:
    """Write k and v [T, v, d] to places (pages [T], offsets [T]) of the caches [P, v, page, d]."""
    k_cache[pages, :, offsets] = k
    v_cache[pages, :, offsets] = v


def silu_mul(both: Tensor) -> Tensor:
    """Return silu(gate) * up of both [T, 2 width] (arXiv:2002.05202)."""
    import torch.nn.functional as f

    gate, up = both.chunk(2, -1)
    if fused := _fused("swiglu", both):
        inputs = fused.Inputs(both, both.new_empty(gate.shape))
        fused.launch(inputs)
        out: torch.Tensor = inputs.out
        return out
    return f.silu(gate) * up


def sample(logits: Tensor) -> Tensor:
    """Return a token a row of logits [rows, vocab], drawn as vLLM does: argmax(softmax / exponential noise)."""
    import torch

    probabilities = torch.softmax(logits, -1, dtype=torch.float32)
    noise = torch.empty_like(probabilities).exponential_()
    return probabilities.div_(noise).argmax(-1)


def spans(counts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (expert, begin, end) of the experts that have rows."""
    begin = 0
    for expert, count in enumerate(counts):
        if count:
            yield expert, begin, begin + count
        begin += count


def experts(
    x: Tensor, up: Tensor, down: Tensor, order: Tensor, inverse: Tensor, share: Tensor, counts: Any
) -> Tensor:
    """Return a mixture of gated experts [T, H] of x [T, H], as its rank computes it: permute, products, unpermute.

    up [E, 2 I, H], down [E, H, I]; order [T k] the token of each row, rows sorted by expert; inverse [T k] the row
    of each (token, choice); share [T, k, 1] the router's weights; counts rows by expert, on a GPU their running
    sum [E] int32.
    """
    import torch
    import torch.nn.functional as f

    rows = x.index_select(0, order)
    if x.is_cuda:
        inner = silu_mul(f.grouped_mm(rows, up.transpose(1, 2), offs=counts))
        out = f.grouped_mm(inner, down.transpose(1, 2), offs=counts)
    else:
        out = torch.empty_like(rows)
        for expert, begin, end in spans(counts):
            out[begin:end] = f.linear(silu_mul(f.linear(rows[begin:end], up[expert])), down[expert])
    return out.index_select(0, inverse).view(*share.shape[:2], -1).mul_(share).sum(1)
