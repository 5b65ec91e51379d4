"""Experts' matrix products in one launch: rows sorted by expert, each expert with its own weight and any share of rows.

C[r, n] = A[r, k] W[e, n, k]^T for the rows r of expert e, which are offsets[e] .. offsets[e + 1]; fp32 accumulation;
types as in `kernels.gemm`; offsets int32 [experts + 1]. Over R rows and the T experts that have any:
2 R n k flops; R k e + T n k e + R n e_C bytes.

Each program finds its expert on the device, by a running sum of tiles over experts, so that the host need not
know the routing: the grid is the most tiles any routing of R rows can need, and programs past the last tile leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import AotSignature, Kernel
from kernels.dtypes import (
    BYTES,
    POINTER,
    PRODUCT,
    TORCH,
    empty,
    generator,
    normal,
    refuse_interpreted_bf16,
)
from kernels.gemm import Tile, signatures, tile_for, tile_product
from kernels.targets import Target, target_of


class Shape(NamedTuple):
    """Rows of each expert, and the sizes of its weight."""

    rows: tuple[int, ...]
    n: int
    k: int


@dataclass(frozen=True)
class Inputs:
    """a [R, k], w [experts, n, k], c [R, n], offsets [experts + 1] on the device, the same rows on the host."""

    a: Tensor
    w: Tensor
    c: Tensor
    offsets: Tensor
    rows: tuple[int, ...]
    tile: Tile


def route(rows: int, experts: int, skew: float = 0.0) -> tuple[int, ...]:
    """Share rows out in proportion to 1 / rank^skew: 0 is even load, 1 is Zipf's. Largest remainders round up."""
    weights = [(rank + 1) ** -skew for rank in range(experts)]
    shares = [rows * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    order = sorted(range(experts), key=lambda e: (counts[e] - shares[e], e))
    for expert in order[: rows - sum(counts)]:
        counts[expert] += 1
    return tuple(counts)


@triton.jit
def grouped_gemm(
    c, a, w, offsets, experts, n, k,
    block_e: tl.constexpr, block_m: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Make one tile of one expert; grid (most tiles along rows, ceil(n / block_n)); block_e >= experts."""
    program = tl.program_id(0)
    ids = tl.arange(0, block_e)
    starts = tl.load(offsets + ids, mask=ids < experts, other=0)
    ends = tl.load(offsets + ids + 1, mask=ids < experts, other=0)
    tiles = tl.cdiv(ends - starts, block_m)
    through = tl.cumsum(tiles, 0)
    mine = (program < through) & (program >= through - tiles)
    if program < tl.sum(tiles):
        expert = tl.sum(tl.where(mine, ids, 0))
        start = tl.sum(tl.where(mine, starts, 0))
        end = tl.sum(tl.where(mine, ends, 0))
        within = program - tl.sum(tl.where(mine, through - tiles, 0))
        rows = start + within * block_m + tl.arange(0, block_m)
        columns = tl.program_id(1) * block_n + tl.arange(0, block_n)
        weights = w + (expert.to(tl.int64) * n + columns) * k
        total = tile_product(
            a + rows.to(tl.int64) * k, weights, rows < end, columns < n, k, block_m, block_n, block_k
        )
        at = rows.to(tl.int64)[:, None] * n + columns[None, :]
        tl.store(c + at, total.to(c.dtype.element_ty), mask=(rows < end)[:, None] & (columns < n)[None, :])


def make_inputs(shape: Shape, dtype: str, device: str, seed: int) -> Inputs:
    """Draw rows and weights, allocate the products; the tile suits the mean rows of an expert that has any."""
    draw, (rows, n, k) = generator(device, seed), shape
    total, busy = sum(rows), sum(count > 0 for count in rows)
    if total == 0:
        raise ValueError("grouped_gemm needs at least one row")
    offsets = torch.tensor((0, *rows)).cumsum(0).to(device, torch.int32)
    a, w = normal(draw, dtype, total, k), normal(draw, dtype, len(rows), n, k)
    tile = tile_for(total // busy, dtype, target_of(device))
    return Inputs(a, w, empty(draw, PRODUCT[dtype], total, n), offsets, rows, tile)


def launch(x: Inputs) -> tuple[Tensor]:
    """Multiply into c."""
    refuse_interpreted_bf16(x.a)
    (total, k), (experts, n, _), tile = x.a.shape, x.w.shape, x.tile
    grid = (total // tile.m + min(experts, total), triton.cdiv(n, tile.n))
    grouped_gemm[grid](
        x.c, x.a, x.w, x.offsets, experts, n, k,
        block_e=triton.next_power_of_2(experts), block_m=tile.m, block_n=tile.n, block_k=tile.k,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
    return (x.c,)


def reference(x: Inputs) -> tuple[Tensor]:
    """Multiply expert by expert in fp32."""
    parts = x.a.float().split(x.rows)
    products = [part @ weight.float().T for part, weight in zip(parts, x.w, strict=True)]
    return (torch.cat(products).to(x.c.dtype),)


def flops(shape: Shape, _: str) -> float:
    """Multiply and add, k times an output."""
    return 2 * sum(shape.rows) * shape.n * shape.k


def bytes_moved(shape: Shape, dtype: str) -> float:
    """Read each row and each weight that has rows, write the products."""
    total, busy = sum(shape.rows), sum(count > 0 for count in shape.rows)
    read = (total + busy * shape.n) * shape.k * BYTES[dtype]
    return read + total * shape.n * BYTES[PRODUCT[dtype]]


def signature(dtype: str, mean_rows: int, target: Target) -> AotSignature:
    """Describe the kernel for 256 experts."""
    tile = tile_for(mean_rows, dtype, target)
    pointers = dict.fromkeys(("a", "w"), POINTER[dtype]) | {"c": POINTER[PRODUCT[dtype]], "offsets": "*i32"}
    return AotSignature(
        label=f"{dtype} m{mean_rows}",
        target=target.name,
        function=grouped_gemm,
        arguments=pointers | dict.fromkeys(("experts", "n", "k"), "i32"),
        constants={"block_e": 256, "block_m": tile.m, "block_n": tile.n, "block_k": tile.k},
        aligned=frozenset({"n", "k"}),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


GROUPED_GEMM = Kernel(
    name="grouped_gemm",
    shape=Shape,
    dtypes=tuple(TORCH),
    make_inputs=make_inputs,
    launch=launch,
    reference=reference,
    flops=flops,
    bytes=bytes_moved,
    aot_signatures=signatures(512, 8, describe=signature),
)
