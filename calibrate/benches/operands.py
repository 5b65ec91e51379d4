"""Operands of benchmarks: cut from one pool a data type, so that a case costs no filling, and rotated to be cold."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from calibrate.backend import DeviceBackend, Timed
from calibrate.backends.call import Call

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Spread of the random numbers: sums over thousands of products stay near 1, as in a trained model.
STD = 0.05
_BLOCK = 2**22
#: More copies than this are not told apart: views cost more than they tell.
_MOST_COPIES = 2048
_POOLS: weakref.WeakKeyDictionary[DeviceBackend, dict[str, Tensor]] = weakref.WeakKeyDictionary()


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's type for a profile's name."""
    import torch

    known = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp8": torch.float8_e4m3fn, "u8": torch.uint8}
    return known[name]


def draw(backend: DeviceBackend, dtype: str, *sizes: int) -> Tensor:
    """Return a new tensor of normal numbers of spread STD."""
    import torch

    fresh = torch.randn(sizes, device=backend.torch_device).mul_(STD)
    return fresh.to(torch_dtype(dtype))


def pool(backend: DeviceBackend, dtype: str, elements: int) -> Tensor:
    """Return a flat tensor of at least so many random numbers, the same one each time while it suffices.

    Numbers repeat after 4 Mi: no kernel can profit from that, and filling stays as fast as memory.
    """
    import torch

    pools = _POOLS.setdefault(backend, {})
    if dtype not in pools or pools[dtype].numel() < elements:
        pools.pop(dtype, None)
        blocks = math.ceil(elements / _BLOCK)
        flat = torch.empty(blocks * _BLOCK, dtype=torch_dtype(dtype), device=backend.torch_device)
        flat.view(blocks, _BLOCK).copy_(draw(backend, "fp32", _BLOCK))
        pools[dtype] = flat
    return pools[dtype]


def num_copies(bytes_each: float, backend: DeviceBackend) -> int:
    """Return how many copies exceed twice the last-level cache, one more than that so that none returns warm.

    One where a copy alone exceeds it: its end drives out its beginning.
    """
    enough = 2 * backend.cache_bytes
    return 1 if bytes_each >= enough else min(_MOST_COPIES, 1 + math.ceil(enough / max(bytes_each, 1.0)))


def rotating(
    backend: DeviceBackend, dtype: str, sizes: Sequence[Sequence[int]], copies: int
) -> list[list[Tensor]]:
    """Return `copies` sets of tensors of the given sizes, side by side in the pool: no element in two of them."""
    numbers = [math.prod(size) for size in sizes]
    flat = pool(backend, dtype, sum(numbers) * copies)
    starts = itertools.accumulate(numbers * copies, initial=0)
    return [
        [
            flat[start : start + math.prod(size)].view(*size)
            for size, start in zip(sizes, starts, strict=False)
        ]
        for _ in range(copies)
    ]


def rotate(sets: Iterable[Any], run: Callable[[Any], Any]) -> Timed:
    """Return a call that runs on the next of the sets each time."""
    ring = itertools.cycle(sets)

    def call() -> Any:
        return run(next(ring))

    return call


def portable(name: str, backend: DeviceBackend, dtype: str, copies: int, **sizes: Any) -> Timed | None:
    """Return the call of one of the package `kernels`, rotating through copies; None off GPUs or without Triton.

    For operators that torch has no fused kernel of. Matrix products stay with the vendor's library, which engines call.
    """
    from calibrate.benches.operators import kernel as find

    kernel = find(name) if backend.kind == "gpu" else None
    if kernel is None or dtype not in kernel.dtypes:
        return None
    shape = kernel.shape(**sizes)
    sets = [kernel.make_inputs(shape, dtype, backend.torch_device, seed) for seed in range(copies)]
    return rotate(sets, kernel.run)


def windowed(call: Timed, window_s: float) -> Call:
    """Return the call with a least length of a sample."""
    return Call(call, window_s=window_s)
