"""SwiGLU (Shazeer 2020): out = silu(gate) * up, with silu(x) = x / (1 + exp(-x)), arithmetic in fp32.

both [tokens, 2 width] holds gate, then up, as one product with a fused weight leaves them; out [tokens, width]; fp32,
fp16 or bf16 of e bytes. 3 tokens width e bytes; 5 tokens width flops (negate, exp, add, divide, multiply).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import AotSignature, Kernel
from kernels.dtypes import BYTES, POINTER, empty, generator, normal
from kernels.targets import TARGETS

#: Columns a program: 4 warps of 32 or 64 threads, each at least 8 elements of an operand, 16 bytes in 2-byte types.
BLOCK = 2048


class Shape(NamedTuple):
    """Rows, and the width of the gate."""

    tokens: int
    width: int


@dataclass(frozen=True)
class Inputs:
    """Operand and output, as the module says."""

    both: Tensor
    out: Tensor


@triton.jit
def swiglu(out, both, width, block: tl.constexpr):
    """Gate a block of one row; grid (tokens, ceil(width / block))."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < width
    gate = tl.load(both + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
    gated = gate / (1 + tl.exp(-gate)) * up
    tl.store(out + row * width + column, gated.to(out.dtype.element_ty), mask=inside)


def make_inputs(shape: Shape, dtype: str, device: str, seed: int) -> Inputs:
    """Draw gate and up, allocate the output."""
    draw, (tokens, width) = generator(device, seed), shape
    return Inputs(normal(draw, dtype, tokens, 2 * width), empty(draw, dtype, tokens, width))


def launch(x: Inputs) -> tuple[Tensor]:
    """Write the gated product."""
    tokens, width = x.out.shape
    swiglu[(tokens, triton.cdiv(width, BLOCK))](x.out, x.both, width, block=BLOCK, num_warps=4)
    return (x.out,)


def reference(x: Inputs) -> tuple[Tensor]:
    """Do the same in fp32."""
    gate, up = x.both.float().chunk(2, dim=1)
    return ((torch.nn.functional.silu(gate) * up).to(x.out.dtype),)


SWIGLU = Kernel(
    name="swiglu",
    shape=Shape,
    dtypes=("fp32", "fp16", "bf16"),
    make_inputs=make_inputs,
    launch=launch,
    reference=reference,
    flops=lambda shape, _: 5 * shape.tokens * shape.width,
    bytes=lambda shape, dtype: 3 * shape.tokens * shape.width * BYTES[dtype],
    aot_signatures=tuple(
        AotSignature(
            label="bf16",
            target=target,
            function=swiglu,
            arguments={"out": POINTER["bf16"], "both": POINTER["bf16"], "width": "i32"},
            constants={"block": BLOCK},
            aligned=frozenset({"width"}),
        )
        for target in TARGETS
    ),
)
