"""Operators of a decoder as an engine on torch would call them; on a GPU the fused ones of `kernels` come first.

h query and v KV heads of size d; P pages of `page` tokens; B sequences, T tokens. Sizes stand in brackets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Gathered keys and values of a group of sequences stay in cache, where attention then finds them.
GATHER_BYTES = 4 * 2**20


def lengths(batch: int, context: int, skew: int = 0) -> list[int]:
    """Return the context of each sequence, longest first, batch * context in all.

    With `skew` an eighth of the sequences, at least one, is four times the mean; the rest shares what is left.
    """
    long = max(1, batch // 8) if skew else 0
    left, rest = batch * context - 4 * context * long, batch - long
    if skew and (rest < 1 or left < rest):
        raise ValueError(f"{batch} sequences of {context} tokens are too few to skew")
    whole, more = divmod(left, rest)
    return [4 * context] * long + [whole + (index < more) for index in range(rest)]


@dataclass(frozen=True)
class Group:
    """Sequences of one length that are gathered together: rows begin to end, pages [rows * pages of one]."""

    begin: int
    end: int
    length: int
    pages: Any


def groups(contexts: Sequence[int], page: int, token_bytes: float, dealt: Tensor) -> list[Group]:
    """Return the groups of a batch, `dealt` being page numbers to give out in turn."""
    found, begin, used = [], 0, 0
    for length, same in groupby(contexts):
        left, each = len(list(same)), math.ceil(length / page)
        most = max(1, int(GATHER_BYTES / (length * token_bytes)))
        while left:
            rows = min(most, left)
            found.append(Group(begin, begin + rows, length, dealt[used : used + rows * each]))
            begin, used, left = begin + rows, used + rows * each, left - rows
    return found


def num_pages(contexts: Sequence[int], page: int) -> int:
    """Return the pages of a batch."""
    return sum(math.ceil(length / page) for length in contexts)


def scratch(batch: Sequence[Group], page: int, width: int, like: Tensor, count: int) -> list[Tensor]:
    """Return `count` buffers for the gathered rows [pages of the largest group, page * width]."""
    most = max(len(group.pages) for group in batch)
    return [like.new_empty(most, page * width) for _ in range(count)]


def _gathered(cache: Tensor, group: Group, buffer: Tensor) -> Tensor:
    """Return a group's rows of a cache [P, page, ...] as [sequences, length, ...]."""
    import torch

    rows = buffer[: len(group.pages)]
    torch.index_select(cache.view(cache.shape[0], -1), 0, group.pages, out=rows)
    return rows.view(group.end - group.begin, -1, *cache.shape[2:])[:, : group.length]


def paged_decode(
    q: Tensor, k: Tensor, v: Tensor, batch: Sequence[Group], buffers: Sequence[Tensor]
) -> Tensor:
    """Return attention [B, h, d] of one query a sequence, q [B, h, d], over caches k and v [P, page, v, d].

    Pages are gathered group by group and attended to densely, a KV head's queries as rows of one product: on a core
    faster than blocks of einsum (5x in bf16) and than gathering the whole batch at once (2x beyond the cache).
    """
    import torch.nn.functional as f

    rows, heads, size = q.shape
    kv_heads = k.shape[2]
    grouped, out = (
        q.view(rows, kv_heads, heads // kv_heads, size),
        q.new_empty(rows, kv_heads, heads // kv_heads, size),
    )
    for group in batch:
        keys, values = (_gathered(c, group, b).transpose(1, 2) for c, b in zip((k, v), buffers, strict=True))
        part = slice(group.begin, group.end)
        out[part] = f.scaled_dot_product_attention(grouped[part], keys, values)
    return out.view(rows, heads, size)


def paged_latent_decode(
    q: Tensor, cache: Tensor, batch: Sequence[Group], buffer: Tensor, latent: int
) -> Tensor:
    """Return absorbed latent attention [B, h, latent] of q [B, h, latent + rope] over a cache [P, page, latent + rope].

    softmax(q c^T / sqrt(192)) c[:latent]; 192 is the query's width before absorption (DeepSeek-V2, arXiv:2405.04434).
    """
    import torch

    out = q.new_empty(*q.shape[:2], latent)
    for group in batch:
        rows = _gathered(cache, group, buffer)
        part = slice(group.begin, group.end)
        scores = torch.bmm(q[part], rows.transpose(1, 2)).mul_(192**-0.5).softmax(-1)
        torch.bmm(scores, rows[..., :latent], out=out[part])
    return out


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
    import torch.nn.functional as f

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


def kv_write(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor) -> None:
    """Write k and v [T, v, d] to the slots [T] (page * tokens a page + offset) of the caches [P, page, v, d]."""
    k_cache.view(-1, *k.shape[1:]).index_copy_(0, slots, k)
    v_cache.view(-1, *v.shape[1:]).index_copy_(0, slots, v)


def silu_mul(both: Tensor) -> Tensor:
    """Return silu(gate) * up of both [T, 2 width] (arXiv:2002.05202)."""
    import torch.nn.functional as f

    gate, up = both.chunk(2, -1)
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
