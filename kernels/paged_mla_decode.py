"""Absorbed decode of multi-head latent attention over a paged cache (DeepSeek-V2, arXiv:2405.04434, section 2.1).

With the up-projections absorbed, every head attends to one row a token of 512 latent and 64 rotary numbers:
out = softmax(q c^T / sqrt(192)) c[:512], 192 = 128 + 64 being the query's width before absorption.
q [sequences, heads, 576]; cache [pages, page_size, 576]; out [sequences, heads, 512]; fp16 or bf16, e bytes;
tables int32 [sequences, most pages]; lengths int32 [sequences]. Over S = the sum of contexts:
2 S heads (576 + 512) flops; S 576 e + sequences heads (576 + 512) e bytes (tables and splits not counted).

One program a (sequence, block of heads, split of the context); a row of the cache is loaded once, as key and value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import AotSignature, Kernel, split_kv
from kernels.dtypes import BYTES, POINTER, empty, generator, normal, refuse_interpreted_bf16
from kernels.paged import block_tables, gather, refuse_fp32_on_device
from kernels.split_kv import softmax_step, span_of, store_split
from kernels.targets import TARGETS, Target, target_of

LATENT, ROTARY, QUERY = 512, 64, 192


class Shape(NamedTuple):
    """Tokens of context by sequence, heads of this rank, tokens a page."""

    context: tuple[int, ...]
    heads: int
    page_size: int
    splits: int | None = None  # a power of two; None to fill the device


class Tile(NamedTuple):
    """Heads and tokens a step, and the launch."""

    h: int
    n: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Inputs:
    """Operands and output, as the module says; partial and logs pass between the stages."""

    q: Tensor
    cache: Tensor
    tables: Tensor
    lengths: Tensor
    out: Tensor
    partial: Tensor
    logs: Tensor
    splits: int
    tile: Tile


def tile_for(heads: int, target: Target) -> Tile:
    """Return 64 heads where there are as many, to read the cache less often, and the most tokens that do not spill.

    On gfx942 such spill with 16 tokens already.
    """
    if heads < 64 or target.backend == "hip":
        return Tile(16, 32, 4, target.stages(2))
    return Tile(64, 32 if target.name == "sm_100" else 16, 8, 2)


@triton.jit
def paged_mla_decode(
    out, logs, q, cache, tables, lengths, table_width, scale,
    heads: tl.constexpr, latent: tl.constexpr, rotary: tl.constexpr, page_size: tl.constexpr,
    block_h: tl.constexpr, block_n: tl.constexpr, splits: tl.constexpr,
):  # fmt: skip
    """Attend over one split; grid (sequences, ceil(heads / block_h), splits); scale is log2(e) / sqrt(192)."""
    # A split that is known keeps registers free: on sm_90 all 255 are in use.
    sequence, split = tl.program_id(0), tl.program_id(2) if splits > 1 else 0
    head = tl.program_id(1) * block_h + tl.arange(0, block_h)
    row = sequence * heads + head
    wide, narrow, token = tl.arange(0, latent), latent + tl.arange(0, rotary), tl.arange(0, block_n)
    width: tl.constexpr = latent + rotary
    mask = head < heads
    query = tl.load(q + row[:, None] * width + wide[None, :], mask=mask[:, None], other=0.0)
    query_rotary = tl.load(q + row[:, None] * width + narrow[None, :], mask=mask[:, None], other=0.0)
    best = tl.full((block_h,), float("-inf"), tl.float32)
    total = tl.zeros((block_h,), tl.float32)
    acc = tl.zeros((block_h, latent), tl.float32)
    start, end = span_of(tl.load(lengths + sequence), split, splits, block_n)
    for first in range(start, end, block_n):
        at = first + token
        page = tl.load(tables + sequence.to(tl.int64) * table_width + at // page_size, mask=at < end, other=0)
        place = (page.to(tl.int64) * page_size + at % page_size) * width
        rows = tl.load(cache + place[:, None] + wide[None, :], mask=(at < end)[:, None], other=0.0)
        rows_rotary = tl.load(cache + place[:, None] + narrow[None, :], mask=(at < end)[:, None], other=0.0)
        scores = tl.dot(query, rows.T, input_precision="ieee")
        scores = tl.dot(query_rotary, rows_rotary.T, scores, input_precision="ieee") * scale
        scores = tl.where((at < end)[None, :], scores, float("-inf"))
        best, total, weights, kept = softmax_step(scores, best, total)
        acc = tl.dot(weights.to(rows.dtype), rows, acc * kept[:, None], input_precision="ieee")
    store_split(out, logs, total, best, acc, row, split, mask, wide, splits, latent)


def make_inputs(shape: Shape, dtype: str, device: str, seed: int) -> Inputs:
    """Draw queries and a cache, deal its pages, allocate the output and what passes between the stages."""
    refuse_fp32_on_device(dtype, device)
    context, heads, page_size, splits = shape
    draw, sequences = generator(device, seed), len(context)
    tables, lengths, pages = block_tables(context, page_size, draw)
    tile = tile_for(heads, target_of(device))
    blocks = sequences * triton.cdiv(heads, tile.h)
    splits = splits or split_kv.splits_for(blocks, max(context), tile.n, device)
    cache = normal(draw, dtype, pages, page_size, LATENT + ROTARY)
    out = empty(draw, dtype, sequences, heads, LATENT)
    partial, logs = split_kv.workspace(sequences * heads, splits, LATENT, out)
    q = normal(draw, dtype, sequences, heads, LATENT + ROTARY)
    return Inputs(q, cache, tables, lengths, out, partial, logs, splits, tile)


def launch(x: Inputs) -> tuple[Tensor]:
    """Attend over the splits, then merge them."""
    refuse_interpreted_bf16(x.q)
    (sequences, heads, _), tile = x.q.shape, x.tile
    paged_mla_decode[(sequences, triton.cdiv(heads, tile.h), x.splits)](
        x.partial, x.logs, x.q, x.cache, x.tables, x.lengths, x.tables.shape[1], math.log2(math.e) * QUERY**-0.5,
        heads=heads, latent=LATENT, rotary=ROTARY, page_size=x.cache.shape[1], block_h=tile.h, block_n=tile.n,
        splits=x.splits, num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
    split_kv.combine(x.out, x.partial, x.logs, x.splits)
    return (x.out,)


def reference(x: Inputs) -> tuple[Tensor]:
    """Attend densely in fp32, sequence by sequence."""
    rows = []
    for query, table, length in zip(x.q.float(), x.tables, x.lengths.tolist(), strict=True):
        tokens = gather(x.cache, table, length)
        rows.append((query @ tokens.T * QUERY**-0.5).softmax(1) @ tokens[:, :LATENT])
    return (torch.stack(rows).to(x.out.dtype),)


def bytes_moved(shape: Shape, dtype: str) -> float:
    """Read the context's rows and the queries, write the output."""
    own = len(shape.context) * shape.heads * (LATENT + ROTARY + LATENT)
    return (sum(shape.context) * (LATENT + ROTARY) + own) * BYTES[dtype]


def signature(dtype: str, shape: Shape, target: Target) -> AotSignature:
    """Describe stage one for a shape that states its splits; its context does not matter."""
    _, heads, page_size, splits = shape
    tile = tile_for(heads, target)
    partial = "*fp32" if splits != 1 else POINTER[dtype]
    return AotSignature(
        label=f"{dtype} h{heads} p{page_size} s{splits}",
        target=target.name,
        function=paged_mla_decode,
        arguments=dict.fromkeys(("out", "logs"), partial)
        | dict.fromkeys(("q", "cache"), POINTER[dtype])
        | {"tables": "*i32", "lengths": "*i32", "table_width": "i32", "scale": "fp32"},
        constants={
            "heads": heads, "latent": LATENT, "rotary": ROTARY, "page_size": page_size,
            "block_h": tile.h, "block_n": tile.n, "splits": splits,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )  # fmt: skip


PAGED_MLA_DECODE = Kernel(
    name="paged_mla_decode",
    shape=Shape,
    dtypes=("fp16", "bf16"),
    make_inputs=make_inputs,
    launch=launch,
    reference=reference,
    flops=lambda shape, _: 2 * sum(shape.context) * shape.heads * (LATENT + ROTARY + LATENT),
    bytes=bytes_moved,
    aot_signatures=tuple(
        described
        for target in TARGETS.values()
        for described in (
            signature("bf16", Shape((), 128, 64, splits=8), target),
            signature("bf16", Shape((), 128, 64, splits=1), target),
            signature("fp16", Shape((), 16, 16, splits=1), target),
            split_kv.signature("bf16", LATENT, 8, target),
        )
    ),
)
