"""Memory bandwidth as STREAM defines it (McCalpin 1995): copy, triad, and reads or writes alone.

Vectors of `elements` numbers, e bytes each:

| kernel | computes                        | flops      | bytes                         |
|--------|---------------------------------|------------|-------------------------------|
| copy   | c = a                           | 0          | 2 n e                         |
| triad  | c = a + 3 b                     | 2 n        | 3 n e                         |
| read   | fp32 sum of each block of 4096  | n          | n e + 4 ceil(n / 4096)        |
| write  | c = 3                           | 0          | n e                           |

Read stores its sums so that no compiler may drop the loads. A cache that allocates on write without
reading first moves exactly these bytes; accelerators do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import AotSignature, Kernel
from kernels.dtypes import BYTES, POINTER, empty, generator, normal
from kernels.targets import TARGETS

#: Elements a program: 4 warps, each thread 32 elements in loads of 16 bytes.
BLOCK = 4096
SCALE = 3.0


class Shape(NamedTuple):
    """Length of the vectors."""

    elements: int


@dataclass(frozen=True)
class Inputs:
    """Vectors [elements] of the dtype; `sums` is fp32 [ceil(elements / BLOCK)]."""

    a: Tensor
    b: Tensor
    c: Tensor
    sums: Tensor


@triton.jit
def stream_copy(c, a, n, block: tl.constexpr):
    """C = a; grid (ceil(n / block),)."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    tl.store(c + at, tl.load(a + at, mask=at < n), mask=at < n)


@triton.jit
def stream_triad(c, a, b, scale, n, block: tl.constexpr):
    """C = a + scale b; grid (ceil(n / block),)."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    first = tl.load(a + at, mask=at < n).to(tl.float32)
    second = tl.load(b + at, mask=at < n).to(tl.float32)
    tl.store(c + at, (first + scale * second).to(c.dtype.element_ty), mask=at < n)


@triton.jit
def stream_read(sums, a, n, block: tl.constexpr):
    """sums[i] = the sum of the i-th block of a; grid (ceil(n / block),)."""
    program = tl.program_id(0)
    at = program.to(tl.int64) * block + tl.arange(0, block)
    tl.store(sums + program, tl.sum(tl.load(a + at, mask=at < n, other=0.0).to(tl.float32)))


@triton.jit
def stream_write(c, value, n, block: tl.constexpr):
    """C = value; grid (ceil(n / block),)."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    tl.store(c + at, tl.full((block,), value, tl.float32).to(c.dtype.element_ty), mask=at < n)


def make_inputs(shape: Shape, dtype: str, device: str, seed: int) -> Inputs:
    """Draw a and b, allocate c and the sums."""
    draw, n = generator(device, seed), shape.elements
    sums = empty(draw, "fp32", triton.cdiv(n, BLOCK))
    return Inputs(normal(draw, dtype, n), normal(draw, dtype, n), empty(draw, dtype, n), sums)


def _grid(x: Inputs) -> tuple[int]:
    return (triton.cdiv(x.a.numel(), BLOCK),)


def launch_copy(x: Inputs) -> tuple[Tensor]:
    """Copy a to c."""
    stream_copy[_grid(x)](x.c, x.a, x.a.numel(), block=BLOCK, num_warps=4)
    return (x.c,)


def launch_triad(x: Inputs) -> tuple[Tensor]:
    """Write a + 3 b to c."""
    stream_triad[_grid(x)](x.c, x.a, x.b, SCALE, x.a.numel(), block=BLOCK, num_warps=4)
    return (x.c,)


def launch_read(x: Inputs) -> tuple[Tensor]:
    """Sum the blocks of a."""
    stream_read[_grid(x)](x.sums, x.a, x.a.numel(), block=BLOCK, num_warps=4)
    return (x.sums,)


def launch_write(x: Inputs) -> tuple[Tensor]:
    """Fill c."""
    stream_write[_grid(x)](x.c, SCALE, x.a.numel(), block=BLOCK, num_warps=4)
    return (x.c,)


def reference_read(x: Inputs) -> tuple[Tensor]:
    """Return the sums of a's blocks, the last one padded with zeros."""
    padded = torch.nn.functional.pad(x.a.float(), (0, -x.a.numel() % BLOCK))
    return (padded.view(-1, BLOCK).sum(dim=1),)


def _signatures(function: Any) -> tuple[AotSignature, ...]:
    """Describe a function of vectors of one dtype; its arguments' names say what they are."""
    fixed = {"sums": "*fp32", "scale": "fp32", "value": "fp32", "n": "i32"}
    names = [name for name in function.arg_names if name != "block"]
    return tuple(
        AotSignature(
            label=dtype,
            target=target,
            function=function,
            arguments={name: fixed.get(name, POINTER[dtype]) for name in names},
            constants={"block": BLOCK},
            aligned=frozenset({"n"}),
        )
        for dtype in ("fp32", "bf16")
        for target in TARGETS
    )


def _vectors(count: int) -> Callable[[Shape, str], float]:
    return lambda shape, dtype: count * shape.elements * BYTES[dtype]


_DTYPES = ("fp32", "fp16", "bf16")
COPY = Kernel(
    name="stream_copy", shape=Shape, dtypes=_DTYPES, make_inputs=make_inputs, launch=launch_copy,
    reference=lambda x: (x.a,),
    flops=lambda *_: 0, bytes=_vectors(2), aot_signatures=_signatures(stream_copy),
)  # fmt: skip
TRIAD = Kernel(
    name="stream_triad", shape=Shape, dtypes=_DTYPES, make_inputs=make_inputs, launch=launch_triad,
    reference=lambda x: ((x.a.float() + SCALE * x.b.float()).to(x.c.dtype),),
    flops=lambda shape, _: 2 * shape.elements, bytes=_vectors(3), aot_signatures=_signatures(stream_triad),
)  # fmt: skip
READ = Kernel(
    name="stream_read", shape=Shape, dtypes=_DTYPES, make_inputs=make_inputs, launch=launch_read,
    reference=reference_read,
    flops=lambda shape, _: shape.elements,
    bytes=lambda shape, dtype: _vectors(1)(shape, dtype) + 4 * triton.cdiv(shape.elements, BLOCK),
    aot_signatures=_signatures(stream_read),
)  # fmt: skip
WRITE = Kernel(
    name="stream_write", shape=Shape, dtypes=_DTYPES, make_inputs=make_inputs, launch=launch_write,
    reference=lambda x: (torch.full_like(x.c, SCALE),),
    flops=lambda *_: 0, bytes=_vectors(1), aot_signatures=_signatures(stream_write),
)  # fmt: skip
