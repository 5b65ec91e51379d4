"""Data types by name, random operands, and how near a kernel must come to its reference."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

TORCH = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
    "fp8_fnuz": torch.float8_e4m3fnuz,  # the e4m3 of gfx942; its successors and NVIDIA have e4m3fn
}
POINTER = {"fp32": "*fp32", "fp16": "*fp16", "bf16": "*bf16", "fp8": "*fp8e4nv", "fp8_fnuz": "*fp8e4b8"}
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "fp8_fnuz": 1}
#: What a product of this type is stored as.
PRODUCT = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "fp8": "bf16", "fp8_fnuz": "bf16"}
#: Bound on `relative_error`: sums in another order (fp32), else two units in the last place of the output.
TOLERANCE = {"fp32": 1e-5, "fp16": 2**-9, "bf16": 2**-6, "fp8": 2**-6, "fp8_fnuz": 2**-6}


def generator(device: str, seed: int) -> torch.Generator:
    """Return a source of random numbers on the device; the same seed gives the same numbers there."""
    return torch.Generator(device=device).manual_seed(seed)


def normal(draw: torch.Generator, dtype: str, *sizes: int) -> Tensor:
    """Return standard normal numbers: a matrix of zeros would draw less power and clock higher."""
    target = TORCH[dtype]
    drawn_as = torch.bfloat16 if BYTES[dtype] == 1 else target
    return torch.randn(sizes, generator=draw, device=draw.device, dtype=drawn_as).to(target)


def empty(draw: torch.Generator, dtype: str, *sizes: int) -> Tensor:
    """Return an output on the generator's device, not initialised."""
    return torch.empty(sizes, device=draw.device, dtype=TORCH[dtype])


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Return max |got - expected| / max |expected|, inf where anything is not a number."""
    difference = (got.float() - expected.float()).abs().max() / expected.float().abs().max()
    return float(difference) if torch.isfinite(difference) else float("inf")


def refuse_interpreted_bf16(operand: Tensor) -> None:
    """Raise where Triton's interpreter would multiply the bit patterns of bf16 as integers (triton 3.9)."""
    if triton.knobs.runtime.interpret and operand.dtype == torch.bfloat16:
        raise NotImplementedError("tl.dot of bf16 is wrong under TRITON_INTERPRET: use fp16 or fp32 there")
