"""Matrix product of a linear layer: C[m, n] = A[m, k] W[n, k]^T, fp32 accumulation.

A and W are fp32, fp16, bf16 or e4m3, row-major, so that both run along k (which fp8 tensor cores ask for); C is of the
same type, bf16 for fp8. 2 m n k flops; (m k + n k) e + m n e_C bytes. fp32 multiplies in fp32, not in TF32; fp8 has
no scales, and on sm_90 accumulates in the tensor core's own width. Any sizes are right; those of n and k that are not
multiples of 16 are slow, since rows then start unaligned and cannot be copied 16 bytes at a time.

One program a tile of C, walked in groups of 8 rows of tiles so that the operands of neighbours meet in L2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
from kernels.targets import TARGETS, Target, target_of


class Shape(NamedTuple):
    """Sizes of the product."""

    m: int
    n: int
    k: int


class Tile(NamedTuple):
    """Block of C a program makes, the step along k, and the launch."""

    m: int
    n: int
    k: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Inputs:
    """a [m, k], w [n, k], c [m, n], and the tile."""

    a: Tensor
    w: Tensor
    c: Tensor
    tile: Tile


def tile_for(m: int, dtype: str, target: Target) -> Tile:
    """Return the tile for m rows, 128 or 256 bytes wide along k.

    Few rows are bound by the weights' bytes: narrow blocks make more programs to fetch them, with no split along k.
    Matrix units of sm_90 take 64 rows at once, those of sm_100 64 or 128; thinner tiles fall back to mma.sync.
    """
    k = 128 // BYTES[dtype]
    if dtype == "fp32":
        return Tile(64 if m > 16 else 16, 64, k, 4, target.stages(2))
    if m <= 16:
        return Tile(16, 32, 2 * k, 4, target.stages(4))
    if m <= 64:
        return Tile(64, 128, k, 4, target.stages(4))
    return Tile(128, 256 if m >= 1024 and target.wide else 128, k, 8, target.stages(3))


@triton.jit
def tile_product(
    a, w, a_mask, w_mask, k, block_m: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr
):
    """Return fp32 [block_m, block_n]: rows that start at pointers a [block_m] times those at w [block_n]."""
    column = tl.arange(0, block_k)
    total = tl.zeros((block_m, block_n), tl.float32)
    for start in range(0, k, block_k):
        at = start + column[None, :]
        left = tl.load(a[:, None] + at, mask=a_mask[:, None] & (at < k), other=0.0)
        right = tl.load(w[:, None] + at, mask=w_mask[:, None] & (at < k), other=0.0)
        total = tl.dot(left, right.T, total, input_precision="ieee")
    return total


@triton.jit
def gemm(
    c, a, w, m, n, k, block_m: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr, group: tl.constexpr
):
    """Make one tile of C; grid (ceil(m / block_m) * ceil(n / block_n),)."""
    program, tiles_m, tiles_n = tl.program_id(0), tl.cdiv(m, block_m), tl.cdiv(n, block_n)
    first = program // (group * tiles_n) * group
    height = tl.minimum(tiles_m - first, group)
    tile_m = first + program % (group * tiles_n) % height
    tile_n = program % (group * tiles_n) // height
    rows = tile_m * block_m + tl.arange(0, block_m)
    columns = tile_n * block_n + tl.arange(0, block_n)
    total = tile_product(
        a + rows.to(tl.int64) * k, w + columns.to(tl.int64) * k, rows < m, columns < n, k,
        block_m, block_n, block_k,
    )  # fmt: skip
    at = rows.to(tl.int64)[:, None] * n + columns[None, :]
    tl.store(c + at, total.to(c.dtype.element_ty), mask=(rows < m)[:, None] & (columns < n)[None, :])


def make_inputs(shape: Shape, dtype: str, device: str, seed: int) -> Inputs:
    """Draw A and W, allocate C, choose the tile."""
    draw, (m, n, k) = generator(device, seed), shape
    a, w = normal(draw, dtype, m, k), normal(draw, dtype, n, k)
    return Inputs(a, w, empty(draw, PRODUCT[dtype], m, n), tile_for(m, dtype, target_of(device)))


def launch(x: Inputs) -> tuple[Tensor]:
    """Multiply into c."""
    refuse_interpreted_bf16(x.a)
    (m, k), n, tile = x.a.shape, x.w.shape[0], x.tile
    grid = (triton.cdiv(m, tile.m) * triton.cdiv(n, tile.n),)
    gemm[grid](
        x.c, x.a, x.w, m, n, k, block_m=tile.m, block_n=tile.n, block_k=tile.k, group=8,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
    return (x.c,)


def reference(x: Inputs) -> tuple[Tensor]:
    """Multiply in fp32."""
    return ((x.a.float() @ x.w.float().T).to(x.c.dtype),)


def bytes_moved(shape: Shape, dtype: str) -> float:
    """Read A and W, write C."""
    m, n, k = shape
    return (m * k + n * k) * BYTES[dtype] + m * n * BYTES[PRODUCT[dtype]]


def signature(dtype: str, m: int, target: Target) -> AotSignature:
    """Describe the kernel for m rows of a dtype."""
    tile = tile_for(m, dtype, target)
    return AotSignature(
        label=f"{dtype} m{m}",
        target=target.name,
        function=gemm,
        arguments={
            "c": POINTER[PRODUCT[dtype]], "a": POINTER[dtype], "w": POINTER[dtype], "m": "i32", "n": "i32", "k": "i32",
        },
        constants={"block_m": tile.m, "block_n": tile.n, "block_k": tile.k, "group": 8},
        aligned=frozenset({"n", "k"}),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )  # fmt: skip


def signatures(
    *shapes: int, describe: Callable[[str, int, Target], AotSignature]
) -> tuple[AotSignature, ...]:
    """Describe bf16 for each number of rows and, for the first, the fp8 of targets that have one."""
    return tuple(
        describe(dtype, m, target)
        for target in TARGETS.values()
        for m in shapes
        for dtype in ("bf16", target.fp8 if m == shapes[0] else None)
        if dtype is not None
    )


GEMM = Kernel(
    name="gemm",
    shape=Shape,
    dtypes=tuple(TORCH),
    make_inputs=make_inputs,
    launch=launch,
    reference=reference,
    flops=lambda shape, _: 2 * shape.m * shape.n * shape.k,
    bytes=bytes_moved,
    aot_signatures=signatures(8192, 256, 64, 1, describe=signature),
)
