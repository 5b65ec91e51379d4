"""Memory bandwidth as STREAM has it (McCalpin 1995), from well inside the caches to well outside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName
from calibrate.case import Case, Samples, Work

#: Arrays that an operator touches once each; the bytes of a case are those of all of them.
ARRAYS = {"read": 1, "write": 1, "copy": 2, "triad": 3}
_SMALLEST = 2**20
_LARGEST = 4 * 10**9
#: The full plan's sizes, by the largest: 20 times the cache is far outside it.
_CACHES = 20
_MEMORY_FRAC = 0.25
#: Bandwidths nearer than this are one plateau.
_PLATEAU = 1.25


class MemoryBandwidth(Bench):
    """read (sum), write (fill), copy and triad (a = b + s c) of fp32 over 1 MiB to max(4 GB, 20 caches), in place."""

    name = "membw"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return the largest sizes first, then the smallest, then those between: both plateaus, then the knee."""
        largest = min(max(_LARGEST, _CACHES * backend.cache_bytes), int(backend.memory_bytes * _MEMORY_FRAC))
        if plan != "full":
            largest = min(largest, (4 if plan == "quick" else 8) * backend.cache_bytes)
        ops = {"quick": ("copy", "read"), "default": ("copy", "read", "triad", "write")}.get(
            plan, tuple(ARRAYS)
        )
        sizes = _sizes(largest, {"quick": 4.0, "default": 2.0, "full": math.sqrt(2.0)}[plan])
        ends = sorted(range(len(sizes)), key=lambda i: (min(len(sizes) - 1 - i, i), -i))
        return [
            Case(self.name, op, "fp32", {"bytes": sizes[index] // 12 * 12}, cache="warm")
            for index in ends
            for op in ops
        ]

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the operator on the same arrays every time, so that what fits a cache is found in it."""
        import torch

        elements = case.shape["bytes"] // 4 // ARRAYS[case.op]
        arrays = [torch.full((elements,), 1.0, device=backend.torch_device) for _ in range(ARRAYS[case.op])]
        first, last = arrays[0], arrays[-1]
        if case.op == "read":
            total: Timed = first.sum
            return total
        if case.op == "write":
            return lambda: first.fill_(2.0)
        if case.op == "copy":
            return lambda: last.copy_(first)
        return lambda: torch.add(arrays[1], last, alpha=3.0, out=first)

    def work(self, case: Case) -> Work:
        """Return each array's bytes, once; a triad's product and sum."""
        size = case.shape["bytes"]
        return Work(2 * size / 12 if case.op == "triad" else 0.0, float(size))


def _sizes(largest: int, ratio: float) -> list[int]:
    """Return sizes from `largest` down to 1 MiB by a ratio, ascending."""
    steps = max(1, round(math.log(largest / _SMALLEST, ratio)))
    return [round(_SMALLEST * (largest / _SMALLEST) ** (step / steps)) for step in range(steps + 1)]


def knee(samples: Iterable[Samples]) -> float | None:
    """Return the bytes up to which one operator's arrays stay in the last-level cache; None where no knee shows.

    Outside plateau: the bandwidth of the largest size. Walking down from it, the first size whose bandwidth is at
    least 1.25 times that is in the cache; the knee is where, in log-log, the line between it and its neighbour
    crosses the geometric mean of the bandwidth there and the plateau's.
    """
    by_size: dict[float, list[float]] = {}
    for each in samples:
        by_size.setdefault(float(each.case.shape["bytes"]), []).extend(each.seconds)
    curve = sorted((size, size / median(seconds)) for size, seconds in by_size.items())
    if len(curve) < 3:
        return None
    outside = curve[-1][1]
    inside = next(
        (index for index in reversed(range(len(curve))) if curve[index][1] >= _PLATEAU * outside), None
    )
    if inside is None:
        return None
    (small, fast), (large, slow) = curve[inside], curve[inside + 1]
    middle = math.sqrt(fast * outside)
    share = math.log(fast / middle) / math.log(fast / slow) if fast > slow else 0.5
    return float(small * (large / small) ** min(1.0, max(0.0, share)))
