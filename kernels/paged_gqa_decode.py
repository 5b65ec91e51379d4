"""Decode attention with grouped queries over a paged cache: one query token a sequence, contexts of any lengths.

q, out [sequences, heads, head_dim]; k, v [pages, page_size, kv_heads, head_dim]; fp16 or bf16, e bytes;
tables int32 [sequences, most pages]; lengths int32 [sequences]. out = softmax(q k^T / sqrt(head_dim)) v, where
heads / kv_heads query heads share a KV head. Over S = the sum of contexts: 4 S heads head_dim flops;
2 S kv_heads head_dim e + 2 sequences heads head_dim e bytes (tables, under 1 % of that, and splits not counted).

One program a (sequence, KV head, split of the context): its query heads, padded to 16, are the rows of a tensor-core
product, so the cache is read once. `kernels.split_kv` merges the splits.
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

#: Tokens a step, of any page size.
BLOCK_N = 64
NUM_WARPS, NUM_STAGES = 4, 3


class Shape(NamedTuple):
    """Tokens of context by sequence, and the sizes of the attention."""

    context: tuple[int, ...]
    heads: int
    kv_heads: int
    head_dim: int
    page_size: int
    splits: int | None = None  # a power of two; None to fill the device


@dataclass(frozen=True)
class Inputs:
    """Operands and output, as the module says; partial and logs pass between the stages."""

    q: Tensor
    k: Tensor
    v: Tensor
    tables: Tensor
    lengths: Tensor
    out: Tensor
    partial: Tensor
    logs: Tensor
    splits: int
    num_stages: int


def rows_for(heads: int, kv_heads: int) -> int:
    """Return query heads a program: those of a KV head, from 16 that tensor cores take to 64."""
    return min(max(int(triton.next_power_of_2(heads // kv_heads)), 16), 64)


@triton.jit
def paged_gqa_decode(
    out, logs, q, k_cache, v_cache, tables, lengths, table_width, scale,
    heads: tl.constexpr, kv_heads: tl.constexpr, head_dim: tl.constexpr, page_size: tl.constexpr,
    block_h: tl.constexpr, block_n: tl.constexpr, splits: tl.constexpr,
):  # fmt: skip
    """Attend over one split; grid (sequences, kv_heads * ceil(group / block_h), splits); scale is log2(e) / sqrt(d)."""
    sequence, block, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    group: tl.constexpr = heads // kv_heads
    blocks: tl.constexpr = (group + block_h - 1) // block_h
    kv_head = block // blocks
    member = block % blocks * block_h + tl.arange(0, block_h)
    row = sequence * heads + kv_head * group + member
    column, token = tl.arange(0, head_dim), tl.arange(0, block_n)
    query = tl.load(q + row[:, None] * head_dim + column[None, :], mask=(member < group)[:, None], other=0.0)
    best = tl.full((block_h,), float("-inf"), tl.float32)
    total = tl.zeros((block_h,), tl.float32)
    acc = tl.zeros((block_h, head_dim), tl.float32)
    start, end = span_of(tl.load(lengths + sequence), split, splits, block_n)
    for first in range(start, end, block_n):
        at = first + token
        page = tl.load(tables + sequence.to(tl.int64) * table_width + at // page_size, mask=at < end, other=0)
        place = ((page.to(tl.int64) * page_size + at % page_size) * kv_heads + kv_head) * head_dim
        keys = tl.load(k_cache + place[:, None] + column[None, :], mask=(at < end)[:, None], other=0.0)
        scores = tl.dot(query, keys.T, input_precision="ieee") * scale
        scores = tl.where((at < end)[None, :], scores, float("-inf"))
        best, total, weights, kept = softmax_step(scores, best, total)
        values = tl.load(v_cache + place[:, None] + column[None, :], mask=(at < end)[:, None], other=0.0)
        acc = tl.dot(weights.to(values.dtype), values, acc * kept[:, None], input_precision="ieee")
    store_split(out, logs, total, best, acc, row, split, member < group, column, splits, head_dim)


def make_inputs(shape: Shape, dtype: str, device: str, seed: int) -> Inputs:
    """Draw queries and a cache, deal its pages, allocate the output and what passes between the stages."""
    refuse_fp32_on_device(dtype, device)
    context, heads, kv_heads, head_dim, page_size, splits = shape
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads do not divide over {kv_heads} KV heads")
    draw, sequences = generator(device, seed), len(context)
    tables, lengths, pages = block_tables(context, page_size, draw)
    blocks = sequences * kv_heads * triton.cdiv(heads // kv_heads, rows_for(heads, kv_heads))
    splits = splits or split_kv.splits_for(blocks, max(context), BLOCK_N, device)
    k, v = (normal(draw, dtype, pages, page_size, kv_heads, head_dim) for _ in range(2))
    out = empty(draw, dtype, sequences, heads, head_dim)
    partial, logs = split_kv.workspace(sequences * heads, splits, head_dim, out)
    q = normal(draw, dtype, sequences, heads, head_dim)
    num_stages = target_of(device).stages(NUM_STAGES)
    return Inputs(q, k, v, tables, lengths, out, partial, logs, splits, num_stages)


def launch(x: Inputs) -> tuple[Tensor]:
    """Attend over the splits, then merge them."""
    refuse_interpreted_bf16(x.q)
    (sequences, heads, head_dim), (_, page_size, kv_heads, _) = x.q.shape, x.k.shape
    block_h = rows_for(heads, kv_heads)
    grid = (sequences, kv_heads * triton.cdiv(heads // kv_heads, block_h), x.splits)
    paged_gqa_decode[grid](
        x.partial, x.logs, x.q, x.k, x.v, x.tables, x.lengths, x.tables.shape[1], math.log2(math.e) * head_dim**-0.5,
        heads=heads, kv_heads=kv_heads, head_dim=head_dim, page_size=page_size, block_h=block_h, block_n=BLOCK_N,
        splits=x.splits, num_warps=NUM_WARPS, num_stages=x.num_stages,
    )  # fmt: skip
    split_kv.combine(x.out, x.partial, x.logs, x.splits)
    return (x.out,)


def reference(x: Inputs) -> tuple[Tensor]:
    """Attend densely in fp32, sequence by sequence."""
    group = x.q.shape[1] // x.k.shape[2]
    rows = []
    for query, table, length in zip(x.q.float(), x.tables, x.lengths.tolist(), strict=True):
        keys, values = (gather(cache, table, length).repeat_interleave(group, 1) for cache in (x.k, x.v))
        scores = torch.einsum("hd,nhd->hn", query, keys) * query.shape[1] ** -0.5
        rows.append(torch.einsum("hn,nhd->hd", scores.softmax(1), values))
    return (torch.stack(rows).to(x.out.dtype),)


def bytes_moved(shape: Shape, dtype: str) -> float:
    """Read the context's keys and values and the queries, write the output."""
    cache = 2 * sum(shape.context) * shape.kv_heads * shape.head_dim
    return (cache + 2 * len(shape.context) * shape.heads * shape.head_dim) * BYTES[dtype]


def signature(dtype: str, shape: Shape, target: Target) -> AotSignature:
    """Describe stage one for a shape that states its splits; its context does not matter."""
    _, heads, kv_heads, head_dim, page_size, splits = shape
    block_h = rows_for(heads, kv_heads)
    partial = "*fp32" if splits != 1 else POINTER[dtype]
    return AotSignature(
        label=f"{dtype} {heads}:{kv_heads} d{head_dim} p{page_size} s{splits}",
        target=target.name,
        function=paged_gqa_decode,
        arguments=dict.fromkeys(("out", "logs"), partial)
        | dict.fromkeys(("q", "k_cache", "v_cache"), POINTER[dtype])
        | {"tables": "*i32", "lengths": "*i32", "table_width": "i32", "scale": "fp32"},
        constants={
            "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "page_size": page_size,
            "block_h": block_h, "block_n": BLOCK_N, "splits": splits,
        },
        num_warps=NUM_WARPS,
        num_stages=target.stages(NUM_STAGES),
    )  # fmt: skip


PAGED_GQA_DECODE = Kernel(
    name="paged_gqa_decode",
    shape=Shape,
    dtypes=("fp16", "bf16"),
    make_inputs=make_inputs,
    launch=launch,
    reference=reference,
    flops=lambda shape, _: 4 * sum(shape.context) * shape.heads * shape.head_dim,
    bytes=bytes_moved,
    aot_signatures=tuple(
        described
        for target in TARGETS.values()
        for described in (
            signature("bf16", Shape((), 64, 8, 128, 16, splits=8), target),
            signature("fp16", Shape((), 32, 8, 64, 64, splits=1), target),
            split_kv.signature("bf16", 128, 8, target),
        )
    ),
)
