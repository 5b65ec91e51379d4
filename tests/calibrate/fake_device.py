"""A device whose times are known: the law, a little noise, and misbehaviour on request. No torch."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName
from calibrate.case import Case, Clock, Work

PEAK, BANDWIDTH = 1e11, 1e10
SHARES = {"compute": 0.7, "memory": 0.8, "overhead": 2e-6}


class FakeBackend(DeviceBackend):
    """Times what `call` says it takes. After `drift_after` looks at the clock everything takes `drift` times longer."""

    kind: Literal["cpu", "gpu"] = "cpu"
    clock: Clock = "cpu"

    def __init__(
        self, noise: float = 0.01, drift_after: int = 0, drift: float = 1.0, name: str = "Fake 1"
    ) -> None:
        self.draw = np.random.default_rng(os.getpid() if noise < 0 else 0)
        self.noise, self.drift_after, self.drift, self.looks, self._name = noise, drift_after, drift, 0, name

    @property
    def name(self) -> str:
        return self._name

    @property
    def dtypes(self) -> tuple[str, ...]:
        return ("bf16",)

    @property
    def torch_device(self) -> str:
        return "cpu"

    def time(self, call: Timed, calls: int = 1) -> float:
        self.looks += 1
        slow = self.drift if self.drift_after and self.looks > self.drift_after else 1.0
        return float(call()) * slow * (1 + self.noise * abs(self.draw.standard_normal()))

    def flush_cache(self) -> None:
        pass

    def synchronise(self) -> None:
        pass

    def state(self) -> Mapping[str, float]:
        return {"power_w": 30.0}

    def contention(self) -> list[str]:
        return []

    def provenance(self) -> Mapping[str, str]:
        return {"torch": "none", "kernel": "made up", "cache_bytes": "1000000"}


def seconds(work: Work) -> float:
    compute = work.flops / (PEAK * SHARES["compute"])
    memory = work.bytes / (BANDWIDTH * SHARES["memory"])
    return float(np.hypot(compute, memory) + SHARES["overhead"])


@Bench.register
class FakeGemm:
    """Products; the shapes named in `hang`, `fail` and `die` do so. It is given to the worker.

    A virtual subclass: `benches()` would find a real one in every later test of the same process.
    """

    name = "gemm"
    family = "gemm"

    def __init__(
        self, sizes: int = 4, misbehave: Mapping[str, str] | None = None, sleep_s: float = 0.0
    ) -> None:
        self.sizes, self.misbehave, self.sleep_s = sizes, misbehave or {}, sleep_s

    def gaps(self, backend: DeviceBackend) -> Sequence[str]:
        return ()

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        return [
            Case("gemm", "gemm", "bf16", {"m": 2**m, "n": 2**n, "k": 1024})
            for m in range(2, 2 + self.sizes)
            for n in range(9, 9 + self.sizes)
        ]

    def work(self, case: Case) -> Work:
        m, n, k = (float(case.shape[name]) for name in "mnk")
        return Work(2 * m * n * k, 2 * (m * k + n * k + m * n), k, np.ceil(m / 128) * np.ceil(n / 128))

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        match self.misbehave.get(f"{case.shape['m']}x{case.shape['n']}"):
            case "hang":
                time.sleep(3600)
            case "fail":
                raise RuntimeError("out of memory, as it were")
            case "die":
                os._exit(7)
        time.sleep(self.sleep_s)
        took = seconds(self.work(case))
        return lambda: took


@Bench.register
class FakeCopy:
    """Copies."""

    name = "copy"
    family = None

    def gaps(self, backend: DeviceBackend) -> Sequence[str]:
        return ()

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        return [Case("copy", "copy", "bf16", {"bytes": size}) for size in (2**22, 2**26)]

    def work(self, case: Case) -> Work:
        return Work(0.0, float(case.shape["bytes"]))

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        took = case.shape["bytes"] / BANDWIDTH
        return lambda: took


def device(
    sizes: int = 4, misbehave: Mapping[str, str] | None = None, sleep_s: float = 0.0, **settings: float
) -> tuple[FakeBackend, dict[str, Bench]]:
    """Return the fake device and its two benchmarks."""
    return FakeBackend(**settings), {"gemm": FakeGemm(sizes, misbehave, sleep_s), "copy": FakeCopy()}


def slow() -> tuple[FakeBackend, dict[str, Bench]]:
    """Return one whose every product takes a tenth of a second to prepare: time to kill the driver."""
    return device(sizes=4, sleep_s=0.1)


def absent() -> tuple[FakeBackend, dict[str, Bench]]:
    """Fail as a host without its driver does."""
    raise RuntimeError("no device here")


def drifting() -> tuple[FakeBackend, dict[str, Bench]]:
    """Return one that is a tenth slower with every case."""

    class Drifting(FakeBackend):
        last: Timed | None = None

        def time(self, call: Timed, calls: int = 1) -> float:
            if call is not self.last:
                self.last, self.looks = call, self.looks + 1
            return float(call()) * 1.1**self.looks

    return Drifting(), {"gemm": FakeGemm(2), "copy": FakeCopy()}
