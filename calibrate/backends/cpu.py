"""This machine's processor through torch.

One thread is timed by its CPU time: what another program takes from the core is not counted, though what it
takes from caches and memory is. Several threads wait for each other, so they are timed by the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

import torch

from calibrate.backend import DeviceBackend, Timed
from calibrate.backends import host
from calibrate.backends.call import clock_of, wishes
from calibrate.case import Clock

_READ: Mapping[Clock, Callable[[], float]] = {"cpu": time.thread_time, "wall": time.perf_counter}
#: Processor flags that multiply bf16 in hardware (Intel AMX and AVX512_BF16, Arm FEAT_BF16).
_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


class CpuBackend(DeviceBackend):
    """The cores of this machine; sets torch's number of threads for the whole process."""

    kind: Literal["cpu", "gpu"] = "cpu"
    accelerator = "local-cpu"
    """Name under which its specification and profile are filed, the same on every machine."""

    def __init__(self, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.threads = threads
        self.clock: Clock = "cpu" if threads == 1 else "wall"
        self.steal = host.Steal()
        self.rapl = host.Rapl()
        usable = (("bf16", torch.bfloat16), ("fp32", torch.float32))
        self._dtypes = tuple(name for name, dtype in usable if _multiplies(dtype))
        self._memory_bytes, self._cache_bytes = host.memory_bytes(), host.cache_bytes()
        self._flush: torch.Tensor | None = None
        self._layer: Timed | None = None

    @property
    def name(self) -> str:
        """Return the processor's name."""
        return host.cpu_name()

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Return bf16 and fp32, each only if a product in it comes out right."""
        return self._dtypes

    @property
    def torch_device(self) -> str:
        """Return "cpu"."""
        return "cpu"

    @property
    def memory_bytes(self) -> int:
        """Return the memory that this process may use."""
        return self._memory_bytes

    @property
    def cache_bytes(self) -> int:
        """Return the bytes of the last-level cache."""
        return self._cache_bytes

    def time(self, call: Timed, calls: int = 1) -> float:
        """Return the seconds of a call, the mean of `calls` and of as many more as its window asks for."""
        wish = wishes(call)
        read, run = _READ[clock_of(call, self.clock)], wish.run
        done = 0
        begin_wall = time.perf_counter()
        begin = read()
        while True:
            for _ in range(calls):
                run()
            done += calls
            if time.perf_counter() - begin_wall >= wish.window_s:
                return (read() - begin) / done

    def flush_cache(self) -> None:
        """Write to twice the last-level cache."""
        if self._flush is None:
            self._flush = torch.zeros(2 * self.cache_bytes // 8 + 1, dtype=torch.int64)
        self._flush.add_(1)

    def spacer(self) -> Timed:
        """Return a decoder layer: a call that follows itself finds code and data that no engine would find there."""
        from calibrate.benches.between import layer

        if self._layer is None:
            self._layer = layer(self)
        return self._layer

    def synchronise(self) -> None:
        """Return at once: calls end before they return."""

    def state(self) -> Mapping[str, float]:
        """Return psi_cpu, psi_memory, steal, load, and where readable clock_mhz and power_w since the last call."""
        power = self.rapl.read()
        return {**host.readings(self.steal), **({} if power is None else {"power_w": power})}

    def contention(self) -> list[str]:
        """Return which programs' traces in /proc speak against a measurement now."""
        return host.in_the_way(host.readings(self.steal))

    def provenance(self) -> Mapping[str, str]:
        """Return the machine's description, torch's version and build, threads, and how bf16 is multiplied."""
        flags = host.cpu_field("flags").split() + host.cpu_field("Features").split()
        bf16 = next((flag for flag in _BF16 if flag in flags), "emulated")
        return {
            **host.provenance(),
            "torch": torch.__version__,
            "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": str(self.threads),
            "bf16": bf16,
            "cache_bytes": str(self.cache_bytes),
            "memory_bytes": str(self.memory_bytes),
        }


def _multiplies(dtype: torch.dtype) -> bool:
    """Say whether a product of ones, large enough to reach the fast kernels, is exact."""
    try:
        product = torch.ones(64, 128, dtype=dtype) @ torch.ones(128, 64, dtype=dtype)
    except RuntimeError:
        return False
    return bool((product == 128).all())
