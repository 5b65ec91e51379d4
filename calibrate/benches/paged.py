"""Decode attention over a paged cache: by torch on groups of gathered pages, on a GPU by the kernels of `kernels`.

h query and v KV heads of size d; P pages of `page` tokens; B sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from calibrate.backend import DeviceBackend
from calibrate.benches.operands import draw
from calibrate.benches.operators import kernel, kv_write
from clustersim.models.precision import bytes_per_element

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Gathered keys and values of a group of sequences stay in cache, where attention then finds them.
GATHER_BYTES = 4 * 2**20
#: The shortest context of a group over its longest. A group costs some 80 us (AMD EPYC, one thread) however little is
#: in it, as much as some 200 tokens of padding.
_SHORTEST_FRAC = 0.5


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


def num_pages(contexts: Sequence[int], page: int) -> int:
    """Return the pages of a batch."""
    return sum(math.ceil(length / page) for length in contexts)


@dataclass(frozen=True)
class Group:
    """Sequences of like length that are gathered together, the shorter ones padded to the pages of the longest."""

    where: Any
    """Their places in the batch: a slice, or a tensor of indices [sequences]."""
    sequences: int
    rows: Any
    """Rows [sequences * v * pages of one] of the cache seen as [P * v, page * d]: by sequence, then KV head."""
    beyond: Any = None
    """Which of the gathered tokens lie beyond a sequence's end [sequences, 1, 1, tokens]; None where none does."""


def groups(
    contexts: Sequence[int], page: int, kv_heads: int, token_bytes: float, dealt: Tensor
) -> list[Group]:
    """Return the groups of a batch; `dealt` are page numbers to give out in turn, token_bytes those of all heads."""
    import torch

    counts = [math.ceil(length / page) for length in contexts]
    dealt_to = dealt[: sum(counts)].split(counts)
    head = torch.arange(kv_heads, device=dealt.device)[None, :, None]
    order, found = sorted(range(len(contexts)), key=lambda place: -contexts[place]), []
    while order:
        longest, each = contexts[order[0]], counts[order[0]]
        most = max(1, int(GATHER_BYTES / (each * page * token_bytes)))
        places = [at for at in order[:most] if contexts[at] >= _SHORTEST_FRAC * longest]
        order = order[len(places) :]
        # What a shorter sequence is padded with is never seen: its first page, again and again.
        pages = torch.stack([_padded(dealt_to[at], each) for at in places])[:, None, :]
        ends = torch.tensor([contexts[at] for at in places], device=dealt.device)[:, None, None, None]
        beyond = torch.arange(each * page, device=dealt.device) >= ends
        found.append(
            Group(
                _places(places), len(places), (pages * kv_heads + head).reshape(-1), beyond if beyond.any() else None
            )
        )  # fmt: skip
    return found


def _padded(pages: Tensor, count: int) -> Tensor:
    import torch

    return torch.cat((pages, pages[:1].expand(count - len(pages))))


def _places(places: Sequence[int]) -> Any:
    import torch

    first, number = places[0], len(places)
    return (
        slice(first, first + number) if [*places] == [*range(first, first + number)] else torch.tensor(places)
    )


def scratch(batch: Sequence[Group], width: int, like: Tensor, count: int) -> list[Tensor]:
    """Return `count` buffers for the gathered rows [rows of the largest group, width]."""
    return [like.new_empty(max(len(group.rows) for group in batch), width) for _ in range(count)]


def _gathered(cache: Tensor, group: Group, buffer: Tensor) -> Tensor:
    """Return a group's part of a cache [P, v, page, d] as [sequences * v, tokens, d], whole pages of the longest."""
    import torch

    rows = buffer[: len(group.rows)]
    torch.index_select(cache.view(-1, buffer.shape[1]), 0, group.rows, out=rows)
    return rows.view(group.sequences * cache.shape[1], -1, cache.shape[-1])


def _attended(q: Tensor, keys: Tensor, values: Tensor, scale: float, group: Group) -> Tensor:
    """Return attention [sequences * v, g, d'] of a group's queries [sequences * v, g, d], g of them to a KV head."""
    import torch

    scores = torch.bmm(q, keys.transpose(1, 2)).mul_(scale)
    if group.beyond is not None:
        scores.view(group.sequences, -1, *scores.shape[1:]).masked_fill_(group.beyond, -math.inf)
    return torch.bmm(scores.softmax(-1), values)


def paged_decode(
    q: Tensor, k: Tensor, v: Tensor, batch: Sequence[Group], buffers: Sequence[Tensor]
) -> Tensor:
    """Return attention [B, h, d] of one query a sequence, q [B, h, d], over caches k and v [P, v, page, d].

    The cache lies as vLLM's CPU backend has it, pages of a head in one piece. Pages are gathered group by group,
    then a KV head's queries are the rows of one product. On a core, in bf16, that is up to four times as fast as
    scaled_dot_product_attention on the gathered pages; in fp32 they are equal.
    """
    import torch

    rows, heads, size = q.shape
    kv_heads = k.shape[1]
    grouped = q.reshape(rows, kv_heads, heads // kv_heads, size)
    out = torch.empty_like(grouped)
    for group in batch:
        keys, values = (
            _gathered(cache, group, buffer) for cache, buffer in zip((k, v), buffers, strict=True)
        )
        part = grouped[group.where]
        out[group.where] = _attended(part.flatten(0, 1), keys, values, size**-0.5, group).view(part.shape)
    return out.view(rows, heads, size)


def paged_latent_decode(
    q: Tensor, cache: Tensor, batch: Sequence[Group], buffer: Tensor, latent: int
) -> Tensor:
    """Return absorbed latent attention [B, h, latent] of q [B, h, latent + rope] over [P, 1, page, latent + rope].

    softmax(q c^T / sqrt(192)) c[:latent]; 192 is the query's width before absorption (DeepSeek-V2, arXiv:2405.04434).
    """
    out = q.new_empty(*q.shape[:2], latent)
    for group in batch:
        rows = _gathered(cache, group, buffer)
        out[group.where] = _attended(q[group.where], rows, rows[..., :latent], 192**-0.5, group)
    return out


class Cache(Protocol):
    """One layer's cache of a batch whose sequences have `context` tokens each, the one being decoded among them."""

    def decode(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write the last token's k and v [B, v, d], and return attention [B, h, d] of q [B, h, d]."""
        ...


@dataclass(frozen=True)
class _TorchCache:
    k: Tensor
    v: Tensor
    batch: Sequence[Group]
    buffers: Sequence[Tensor]
    pages: Tensor
    offset: Tensor

    def decode(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kv_write(k, v, self.k, self.v, self.pages, self.offset)
        return paged_decode(q, self.k, self.v, self.batch, self.buffers)


@dataclass(frozen=True)
class _KernelCache:
    kernel: Any
    inputs: Any
    slots: Tensor

    def decode(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.inputs.k.view(-1, *k.shape[1:]).index_copy_(0, self.slots, k)
        self.inputs.v.view(-1, *v.shape[1:]).index_copy_(0, self.slots, v)
        (out,) = self.kernel.launch(replace(self.inputs, q=q.contiguous()))
        attended: torch.Tensor = out
        return attended


def new_cache(
    backend: DeviceBackend,
    dtype: str,
    batch: int,
    context: int,
    heads: int,
    kv_heads: int,
    size: int,
    page: int,
) -> Cache:
    """Return a cache full of random numbers, its pages in random order."""
    import torch

    each, at = math.ceil(context / page), context - 1
    fused = kernel("paged_gqa_decode") if backend.kind == "gpu" else None
    if fused and dtype in fused.dtypes:
        shape = fused.shape((context,) * batch, heads, kv_heads, size, page)
        inputs = fused.make_inputs(shape, dtype, backend.torch_device, 0)
        return _KernelCache(fused, inputs, inputs.tables[:, at // page].long() * page + at % page)
    dealt = torch.randperm(batch * each, device=backend.torch_device)
    k, v = (draw(backend, dtype, batch * each, kv_heads, page, size) for _ in "kv")
    found = groups([context] * batch, page, kv_heads, 2 * kv_heads * size * bytes_per_element(dtype), dealt)
    pages = dealt.view(batch, each)[:, -1]
    return _TorchCache(
        k, v, found, scratch(found, page * size, k, 2), pages, torch.full_like(pages, at % page)
    )
