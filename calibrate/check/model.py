"""The Llama that is served: random weights, a paged cache of its own, one forward pass for any mix of sequences.

Its operators are those that the benchmarks time; its weights, its cache and the order of its calls are an engine's.
T tokens in a step, B sequences that decode, h query and v KV heads of size d, P pages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from calibrate.backend import DeviceBackend
from calibrate.benches import operators
from calibrate.benches.operands import draw
from calibrate.benches.paged import Group, groups, paged_decode, scratch
from calibrate.benches.step import Llama
from clustersim.models.precision import bytes_per_element
from clustersim.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

#: Tokens in a page, vLLM's default.
PAGE = 16


class Chunk(NamedTuple):
    """What one sequence does in a step: `tokens` new ones after `past` cached ones, in its pages of the cache."""

    tokens: int
    past: int
    pages: Sequence[int]


@dataclass(frozen=True)
class Prepared:
    """A step's inputs, as the host lays them out: sequences that decode first, then the chunks of prompts."""

    ids: Tensor
    tables: tuple[Tensor, Tensor]
    pages: Tensor
    """Page of each token's key and value [T], and its offset in it."""
    offsets: Tensor
    rows: Tensor
    """Last token of each sequence [B + chunks], which alone gets logits."""
    num_decoding: int
    batch: Sequence[Group]
    buffers: Sequence[Tensor]
    chunks: Sequence[tuple[int, Chunk, Tensor]]
    """First token of each chunk, the chunk, and its pages."""


class Laps:
    """Adds up the time between marks by operator; `read` is a clock in seconds."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.read, self.last = read, read()
        self.seconds: dict[str, float] = defaultdict(float)

    def __call__(self, name: str) -> None:
        """Give the time since the last mark to an operator."""
        now = self.read()
        self.seconds[name] += now - self.last
        self.last = now


def _no_laps(_name: str) -> None:
    return None


class ServedLlama(Llama):
    """A decoder with one cache of `num_pages` pages a layer for all of its sequences."""

    def __init__(self, spec: ModelSpec, dtype: str, backend: DeviceBackend, num_pages: int) -> None:
        super().__init__(spec, dtype, backend)
        kv_heads, size = self.attention.num_kv_heads, self.attention.head_dim
        self.num_pages = num_pages
        self.token_bytes = 2 * kv_heads * size * bytes_per_element(dtype)
        self.caches = [
            tuple(draw(backend, dtype, num_pages, kv_heads, PAGE, size) for _ in "kv") for _ in self.layers
        ]

    def prepare(self, decoding: Sequence[Chunk], prefilling: Sequence[Chunk]) -> Prepared:
        """Return the inputs of a step; a decoding sequence is a chunk of one token."""
        import torch

        every = [*decoding, *prefilling]
        places = [
            (chunk.pages[at // PAGE], at % PAGE, at)
            for chunk in every
            for at in range(chunk.past, chunk.past + chunk.tokens)
        ]
        pages, offsets, positions = (torch.tensor(column) for column in zip(*places, strict=True))
        ends, end = [], 0
        for chunk in every:
            end += chunk.tokens
            ends.append(end - 1)
        starts = [last + 1 - chunk.tokens for last, chunk in zip(ends, every, strict=True)]
        dealt = torch.tensor(
            [page for c in decoding for page in c.pages[: -(-(c.past + 1) // PAGE)]], dtype=torch.long
        )
        contexts = [chunk.past + 1 for chunk in decoding]
        batch = groups(contexts, PAGE, self.attention.num_kv_heads, self.token_bytes, dealt)
        width = PAGE * self.attention.head_dim
        return Prepared(
            ids=torch.randint(self.spec.vocab_size, (len(places),)),
            tables=operators.rope_tables(positions, self.attention.head_dim, self.table.dtype),
            pages=pages, offsets=offsets, rows=torch.tensor(ends), num_decoding=len(decoding), batch=batch,
            buffers=scratch(batch, width, self.table, 2) if batch else (),
            chunks=[
                (start, chunk, torch.tensor(chunk.pages[: -(-(chunk.past + chunk.tokens) // PAGE)]))
                for start, chunk in zip(starts[len(decoding) :], prefilling, strict=True)
            ],
        )  # fmt: skip

    def forward(self, step: Prepared, lap: Callable[[str], None] = _no_laps) -> Tensor:
        """Return the next token of every sequence [B + chunks]; `lap` is told each operator that has ended."""
        import torch.nn.functional as f

        heads, kv_heads, size = self.attention.num_heads, self.attention.num_kv_heads, self.attention.head_dim
        residual = f.embedding(step.ids, self.table)
        x = residual.new_zeros(residual.shape)
        lap("embedding")
        for number, layer in enumerate(self.layers):
            x, residual = operators.add_norm(x, residual, layer.norm)
            lap("input_norm")
            qkv = f.linear(x, layer.qkv).view(len(step.ids), -1, size)
            lap("qkv_proj")
            q, k, v = qkv.split((heads, kv_heads, kv_heads), 1)
            q, k = operators.rope(q, step.tables), operators.rope(k, step.tables)
            k_cache, v_cache = self.caches[number]
            operators.kv_write(k, v, k_cache, v_cache, step.pages, step.offsets)
            lap("rope_and_kv_write")
            attended = self._attend(step, number, q, k, v, lap)
            x = f.linear(attended.view(len(step.ids), heads * size), layer.out)
            lap("o_proj")
            x, residual = operators.add_norm(x, residual, layer.mlp_norm)
            lap("post_attention_norm")
            x = f.linear(x, layer.up)
            lap("mlp_up")
            x = operators.silu_mul(x)
            lap("mlp_activation")
            x = f.linear(x, layer.down)
            lap("mlp_down")
        x, _ = operators.add_norm(x[step.rows], residual[step.rows], self.norm)
        lap("final_norm")
        logits = f.linear(x, self.head)
        lap("lm_head")
        tokens = operators.sample(logits)
        lap("sampling")
        return tokens

    def _attend(self, step: Prepared, layer: int, q: Tensor, k: Tensor, v: Tensor, lap: Any) -> Tensor:
        """Return attention [T, h, d]: paged for sequences that decode, causal over cache and chunk for the others."""
        count, (k_cache, v_cache) = step.num_decoding, self.caches[layer]
        if not step.chunks:
            out = paged_decode(q, k_cache, v_cache, step.batch, step.buffers)
            lap("attention_decode")
            return out
        out = q.new_empty(q.shape)
        if count:
            out[:count] = paged_decode(q[:count], k_cache, v_cache, step.batch, step.buffers)
            lap("attention_decode")
        for start, chunk, pages in step.chunks:
            part = slice(start, start + chunk.tokens)
            keys, values = (k[part], v[part]) if not chunk.past else _cached(k_cache, v_cache, chunk, pages)
            query, keys, values = (each.transpose(0, 1).unsqueeze(0) for each in (q[part], keys, values))
            mask = operators.causal_mask(chunk.tokens, chunk.past, q)
            out[part] = operators.prefill_attention(query, keys, values, mask)[0].transpose(0, 1)
        lap("attention_prefill")
        return out


def _cached(k_cache: Tensor, v_cache: Tensor, chunk: Chunk, pages: Tensor) -> tuple[Tensor, ...]:
    """Return keys and values [past + tokens, v, d] of a sequence out of its pages."""
    length = chunk.past + chunk.tokens
    return tuple(
        cache[pages].transpose(1, 2).reshape(-1, cache.shape[1], cache.shape[3])[:length]
        for cache in (k_cache, v_cache)
    )
