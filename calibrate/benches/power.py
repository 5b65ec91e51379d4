"""Power at rest and under the loads that steps are made of; read beside the samples, in their notes (power_w)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from calibrate.backend import DeviceBackend, Timed
from calibrate.backends.call import Call
from calibrate.benches import Bench, PlanName
from calibrate.benches.attention_decode import AttentionDecode
from calibrate.benches.gemm_peak import GemmPeak
from calibrate.benches.membw import MemoryBandwidth
from calibrate.case import Case, Work

#: Long enough for NVML's averages (100 ms and more) and RAPL's counters (1 ms) to have settled.
_WINDOW_MS = {"quick": 500, "default": 2000, "full": 5000}
_LOADS: dict[str, Bench] = {"gemm": GemmPeak(), "membw": MemoryBandwidth(), "decode": AttentionDecode()}


class Power(Bench):
    """idle, and a product, a copy and a decode attention kept running; joules a call = power_w * seconds."""

    name = "power"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return idle, then the loads; none where the device does not tell its power."""
        if "power_w" not in backend.state():
            return []
        window = {"window_ms": _WINDOW_MS[plan]}
        found = [Case(self.name, "idle", "none", window, cache="warm")]
        for op, bench in _LOADS.items():
            wanted = "copy" if op == "membw" else None
            load = next((case for case in bench.cases(plan, backend) if wanted in (None, case.op)), None)
            if load:
                shape = {**load.shape, **window}
                found.append(Case(self.name, op, load.dtype, shape, cache=load.cache))
        return found

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the load with its window; idle sleeps through its own."""
        window_s = case.shape["window_ms"] * 1e-3
        if case.op == "idle":
            return Call(lambda: time.sleep(window_s), "wall", capture=False)
        return Call(_LOADS[case.op].prepare(self._load(case), backend), window_s=window_s)

    def work(self, case: Case) -> Work:
        """Return the load's work a call."""
        return Work(0.0, 0.0) if case.op == "idle" else _LOADS[case.op].work(self._load(case))

    def gaps(self, backend: DeviceBackend) -> Sequence[str]:
        """Return why power cannot be read."""
        if "power_w" in backend.state():
            return ()
        need = (
            "pynvml (NVML)"
            if backend.kind == "gpu"
            else "readable energy counters in /sys/class/powercap (RAPL)"
        )
        return (f"power: not readable on this device; it needs {need}",)

    @staticmethod
    def _load(case: Case) -> Case:
        shape = dict(case.shape)
        if case.op != "gemm":
            shape.pop("window_ms")
        bench = _LOADS[case.op].name
        op = {"gemm": "burst", "membw": "copy", "decode": "paged_decode"}[case.op]
        return Case(
            bench,
            op,
            case.dtype,
            {**shape, **({"window_ms": 0} if case.op == "gemm" else {})},
            cache=case.cache,
        )
