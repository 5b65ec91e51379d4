"""Microbenchmark kernels in Triton, one a file, each beside a torch reference that says what it computes.

    kernel = KERNELS["gemm"]
    shape = kernel.shape(m=4096, n=4096, k=4096)
    inputs = kernel.make_inputs(shape, "bf16", "cuda", 0)    # allocates outputs too, so that run may be captured
    kernel.run(inputs)
    kernel.error(inputs)                                     # from the reference: under kernels.dtypes.TOLERANCE
    kernel.work(shape, "bf16")                               # Work(flops, bytes)

Importing this package needs neither torch nor triton; looking a kernel up does. The kernels are portable yardsticks:
one source for every accelerator, no autotuning, every tile and grid stated. A vendor's library is another number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

# Triton means to change whether it fuses a * b + c; a benchmark's arithmetic should not change with it.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")


class Work(NamedTuple):
    """What a launch must do at least: operations, and bytes to and from memory with each operand moved once."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class AotSignature:
    """One specialisation of a Triton function, enough to compile it without a GPU."""

    label: str
    """Says what is special; one a kernel and target."""
    target: str
    """A name of `kernels.targets`."""
    function: Any
    """What `triton.jit` returned."""
    arguments: Mapping[str, str]
    """Triton type by argument that is not constexpr: "*fp16", "i32", "fp32"."""
    constants: Mapping[str, object]
    """Value by constexpr argument."""
    aligned: frozenset[str] = frozenset()
    """Integers taken as multiples of 16, as the launcher finds them for shapes of models; pointers always are."""
    num_warps: int = 4
    num_stages: int = 1


@dataclass(frozen=True)
class Kernel:
    """A microbenchmark. Shapes are its own NamedTuple; a dtype is a name of `kernels.dtypes`."""

    name: str
    shape: Callable[..., Any]
    """The NamedTuple of its sizes."""
    dtypes: tuple[str, ...]
    """Those worth measuring on some accelerator."""
    make_inputs: Callable[[Any, str, str, int], Any]
    """(shape, dtype, device, seed) -> operands and outputs, on the device."""
    launch: Callable[[Any], tuple[Any, ...]]
    """Start the kernel on the current device and stream; return the output tensors, which it overwrites."""
    reference: Callable[[Any], tuple[Any, ...]]
    """The same outputs from torch, computed in fp32 and rounded once."""
    flops: Callable[[Any, str], float]
    bytes: Callable[[Any, str], float]
    aot_signatures: tuple[AotSignature, ...]

    def run(self, inputs: Any) -> tuple[Any, ...]:
        """Launch on `inputs`, without waiting for the device."""
        return self.launch(inputs)

    def work(self, shape: Any, dtype: str) -> Work:
        """Return the operations and bytes of one launch."""
        return Work(float(self.flops(shape, dtype)), float(self.bytes(shape, dtype)))

    def error(self, inputs: Any) -> float:
        """Launch, and return the largest difference from the reference over the reference's largest magnitude."""
        from kernels.dtypes import relative_error

        pairs = zip(self.launch(inputs), self.reference(inputs), strict=True)
        return max(relative_error(got, expected) for got, expected in pairs)


#: Where each kernel lives: module and attribute.
_PLACES = {
    "stream_copy": ("stream", "COPY"),
    "stream_triad": ("stream", "TRIAD"),
    "stream_read": ("stream", "READ"),
    "stream_write": ("stream", "WRITE"),
    "gemm": ("gemm", "GEMM"),
    "grouped_gemm": ("grouped_gemm", "GROUPED_GEMM"),
    "paged_gqa_decode": ("paged_gqa_decode", "PAGED_GQA_DECODE"),
    "paged_mla_decode": ("paged_mla_decode", "PAGED_MLA_DECODE"),
    "rmsnorm": ("rmsnorm", "RMSNORM"),
    "swiglu": ("swiglu", "SWIGLU"),
}


class _Kernels(Mapping[str, Kernel]):
    """Names at once; a kernel when it is looked up, since that imports torch and triton."""

    def __getitem__(self, name: str) -> Kernel:
        if name not in _PLACES:
            raise KeyError(f"no kernel {name!r}; there are {', '.join(_PLACES)}")
        module, attribute = _PLACES[name]
        try:
            kernel: Kernel = getattr(import_module(f"kernels.{module}"), attribute)
        except ModuleNotFoundError as error:
            if error.name not in {"torch", "triton"}:
                raise
            raise ModuleNotFoundError(
                f"kernels need {error.name}: pip install 'clustersim[kernels]'", name=error.name
            ) from None
        return kernel

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


KERNELS: Mapping[str, Kernel] = _Kernels()
