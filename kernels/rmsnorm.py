"""RMSNorm with the residual added first, as between the blocks of a decoder (Zhang and Sennrich 2019).

sum = x + residual;  y = sum / sqrt(mean(sum^2) + 1e-6) * weight, rows of `hidden` numbers, arithmetic in fp32.
x, residual, sum, y are [tokens, hidden], weight [hidden], all fp32, fp16 or bf16 of e bytes. Serving writes sum over
residual; apart or in place, the bytes are the same: 4 tokens hidden e + hidden e. 5 tokens hidden flops (add; square
and sum; two products), the root of a row not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from kernels import AotSignature, Kernel
from kernels.dtypes import BYTES, POINTER, empty, generator, normal
from kernels.targets import TARGETS

EPSILON = 1e-6


class Shape(NamedTuple):
    """Rows and their length."""

    tokens: int
    hidden: int


@dataclass(frozen=True)
class Inputs:
    """Operands and outputs, as the module says."""

    x: Tensor
    residual: Tensor
    weight: Tensor
    total: Tensor
    y: Tensor


def warps_for(hidden: int) -> int:
    """Return warps a row: 16 to 64 elements a thread."""
    return min(max(int(triton.next_power_of_2(hidden)) // 1024, 1), 16)


@triton.jit
def rmsnorm(y, total, x, residual, weight, hidden, epsilon, block: tl.constexpr):
    """Normalise one row; grid (tokens,); block >= hidden."""
    column = tl.arange(0, block)
    inside = column < hidden
    at = tl.program_id(0).to(tl.int64) * hidden + column
    added = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    added += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(total + at, added.to(total.dtype.element_ty), mask=inside)
    scale = tl.rsqrt(tl.sum(added * added) / hidden + epsilon)
    scaled = added * scale * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, scaled.to(y.dtype.element_ty), mask=inside)


def make_inputs(shape: Shape, dtype: str, device: str, seed: int) -> Inputs:
    """Draw the operands, allocate the outputs."""
    draw, (tokens, hidden) = generator(device, seed), shape
    x, residual = normal(draw, dtype, tokens, hidden), normal(draw, dtype, tokens, hidden)
    total, y = empty(draw, dtype, tokens, hidden), empty(draw, dtype, tokens, hidden)
    return Inputs(x, residual, normal(draw, dtype, hidden), total, y)


def launch(x: Inputs) -> tuple[Tensor, Tensor]:
    """Write the sum and its norm."""
    tokens, hidden = x.x.shape
    rmsnorm[(tokens,)](
        x.y, x.total, x.x, x.residual, x.weight, hidden, EPSILON,
        block=triton.next_power_of_2(hidden), num_warps=warps_for(hidden),
    )  # fmt: skip
    return x.y, x.total


def reference(x: Inputs) -> tuple[Tensor, Tensor]:
    """Do the same in fp32."""
    total = x.x.float() + x.residual.float()
    y = total * (total.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt() * x.weight.float()
    return y.to(x.y.dtype), total.to(x.total.dtype)


def signature(dtype: str, hidden: int, target: str) -> AotSignature:
    """Describe the kernel for a row's length."""
    return AotSignature(
        label=f"{dtype} {hidden}",
        target=target,
        function=rmsnorm,
        arguments=dict.fromkeys(("y", "total", "x", "residual", "weight"), POINTER[dtype])
        | {"hidden": "i32", "epsilon": "fp32"},
        constants={"block": triton.next_power_of_2(hidden)},
        aligned=frozenset({"hidden"}),
        num_warps=warps_for(hidden),
    )


RMSNORM = Kernel(
    name="rmsnorm",
    shape=Shape,
    dtypes=("fp32", "fp16", "bf16"),
    make_inputs=make_inputs,
    launch=launch,
    reference=reference,
    flops=lambda shape, _: 5 * shape.tokens * shape.hidden,
    bytes=lambda shape, dtype: (4 * shape.tokens + 1) * shape.hidden * BYTES[dtype],
    aot_signatures=tuple(signature("bf16", hidden, target) for hidden in (7168, 16384) for target in TARGETS),
)
