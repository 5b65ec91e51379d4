"""What a large matrix product reaches in a burst, and what it sustains.

After mamf-finder (github.com/stas00/ml-engineering): the burst is the median of the five fastest, at whatever clock
the device boosts to; the sustained rate is the mean over a window long enough for power and heat to settle. A
simulator of busy fleets wants the second; datasheets speak of the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, median
from typing import NamedTuple

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName
from calibrate.benches.operands import rotate, rotating, windowed
from calibrate.benches.sizes import dtypes
from calibrate.case import Case, Samples, Work
from clustersim.models.precision import bytes_per_element

_SIDE = {("cpu", "quick"): 512, ("cpu", "default"): 2048, ("cpu", "full"): 2048}
_WINDOW_MS = {
    ("cpu", "quick"): 100, ("cpu", "default"): 500, ("cpu", "full"): 2000,
    ("gpu", "quick"): 2000, ("gpu", "default"): 5000, ("gpu", "full"): 30000,
}  # fmt: skip


class GemmPeak(Bench):
    """A square product of warm operands. One sample of `sustained` repeats it for window_ms and is their mean."""

    name = "gemm_peak"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return a burst and a sustained case for each data type."""
        side = _SIDE.get((backend.kind, plan), 8192)
        window = {"burst": 0, "sustained": _WINDOW_MS[backend.kind, plan]}
        return [
            Case(
                self.name, op, dtype, {"m": side, "n": side, "k": side, "window_ms": window[op]}, cache="warm"
            )
            for op in window
            for dtype in dtypes(plan, backend)
        ]

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the product; a sustained one asks for its window."""
        import torch

        m, n, k = (case.shape[size] for size in "mnk")
        sets = rotating(backend, case.dtype, [(m, k), (n, k)], 1)
        if case.dtype == "fp8":
            one = torch.ones((), device=backend.torch_device)
            call = rotate(
                sets,
                lambda s: torch._scaled_mm(
                    s[0], s[1].t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
                ),
            )
        else:
            call = rotate(sets, lambda s: torch.nn.functional.linear(*s))
        return windowed(call, case.shape["window_ms"] * 1e-3) if case.shape["window_ms"] else call

    def work(self, case: Case) -> Work:
        """Return one product's work, by the definitions of family gemm."""
        m, n, k = (case.shape[size] for size in "mnk")
        element = bytes_per_element(case.dtype)
        moved = (m + n) * k * element + m * n * max(2.0, element)
        return Work(2.0 * m * n * k, moved, k, float(-(-m // 128) * -(-n // 128)))


class Peaks(NamedTuple):
    """FLOP/s of one data type."""

    burst: float | None
    sustained: float | None


def peaks(samples: Iterable[Samples]) -> dict[str, Peaks]:
    """Return burst and sustained FLOP/s by data type, None where not measured."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for each in samples:
        flops = GemmPeak().work(each.case).flops
        seconds.setdefault((each.case.dtype, each.case.op), []).extend(
            flops / second for second in each.seconds
        )
    found = {}
    for dtype in dict.fromkeys(dtype for dtype, _ in seconds):
        bursts, steady = seconds.get((dtype, "burst"), []), seconds.get((dtype, "sustained"), [])
        fastest = sorted(bursts, reverse=True)[:5]
        found[dtype] = Peaks(
            median(fastest) if fastest else None, 1 / mean(1 / s for s in steady) if steady else None
        )
    return found
