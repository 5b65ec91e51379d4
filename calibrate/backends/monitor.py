"""Clocks, power, temperature, throttling and neighbours of a GPU, from NVML where pynvml is installed.

NVML's functions and bits: docs.nvidia.com/deploy/nvml-api, group nvmlClocksEventReasons.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

#: Bits of nvmlDeviceGetCurrentClocksEventReasons that mean the device is held back; idle (1), application clocks (2)
#: and display clocks (256) are settings, not trouble.
THROTTLES: Mapping[int, str] = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
IDLE = 0x1


class Event(Protocol):
    """A torch.cuda.Event that records time."""

    def record(self) -> None:
        """Mark the place in the stream."""

    def synchronize(self) -> None:
        """Wait until the stream has passed it."""

    def elapsed_time(self, end: Any) -> float:
        """Return the milliseconds from this event to another."""
        ...


class Runtime(Protocol):
    """What the GPU backend needs of torch; `recorded.RecordedRuntime` replays one."""

    @property
    def name(self) -> str:
        """Return the device's name."""
        ...

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Return the types it multiplies in."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Return its memory."""
        ...

    @property
    def cache_bytes(self) -> int:
        """Return its last-level cache."""
        ...

    def event(self) -> Event:
        """Return a new event."""
        ...

    def synchronise(self) -> None:
        """Wait for the device."""

    def wall(self, run: Callable[[], Any], calls: int) -> float:
        """Return wall seconds of a call."""
        ...

    def stall(self, seconds: float) -> None:
        """Keep the stream busy."""

    def capture(self, run: Callable[[], Any], calls: int) -> Callable[[], None] | None:
        """Return the replay of a graph of calls, or None."""
        ...

    def write(self, num_bytes: int) -> None:
        """Write to so many bytes."""

    def provenance(self) -> Mapping[str, str]:
        """Return versions."""
        ...


class Monitor:
    """Readings of a device that offers none."""

    def read(self) -> Mapping[str, float]:
        """Return clock_mhz, clock_max_mhz, memory_clock_mhz, temp_c, power_w, throttle, other_pids, busy."""
        return {}

    def throttle_reasons(self) -> list[str]:
        """Return what holds the clock down, in words."""
        bits = int(self.read().get("throttle", 0))
        return [reason for bit, reason in THROTTLES.items() if bits & bit]

    def provenance(self) -> Mapping[str, str]:
        """Return driver, limits and modes."""
        return {"monitor": "none: clocks, power and throttling are not known"}


class NvmlMonitor(Monitor):
    """Readings of one NVIDIA GPU. A reading that the device does not support is left out."""

    def __init__(self, pynvml: Any, uuid: str | None = None) -> None:
        pynvml.nvmlInit()
        self.nvml = pynvml
        self.device = pynvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else pynvml.nvmlDeviceGetHandleByIndex(0)

    def read(self) -> Mapping[str, float]:
        """Return what the driver says now."""
        nvml, device = self.nvml, self.device
        throttle = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", device)
        asked = {
            "clock_mhz": self._ask("nvmlDeviceGetClockInfo", device, nvml.NVML_CLOCK_SM),
            "clock_max_mhz": self._ask("nvmlDeviceGetMaxClockInfo", device, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": self._ask("nvmlDeviceGetClockInfo", device, nvml.NVML_CLOCK_MEM),
            "temp_c": self._ask("nvmlDeviceGetTemperature", device, nvml.NVML_TEMPERATURE_GPU),
            "power_w": self._ask("nvmlDeviceGetPowerUsage", device, scale=1e-3),
            "throttle": throttle,
            "busy": None if throttle is None else float(not int(throttle) & IDLE),
        }
        running = self._call("nvmlDeviceGetComputeRunningProcesses", device)
        if running is not None:
            asked["other_pids"] = float(sum(process.pid != os.getpid() for process in running))
        return {name: value for name, value in asked.items() if value is not None}

    def provenance(self) -> Mapping[str, str]:
        """Return driver, power limit, persistence, ECC, MIG and locked clocks, as far as the driver tells."""
        names = {
            "power_limit_mw": "nvmlDeviceGetPowerManagementLimit",
            "persistence": "nvmlDeviceGetPersistenceMode",
            "ecc": "nvmlDeviceGetEccMode",
            "mig": "nvmlDeviceGetMigMode",
            "vbios": "nvmlDeviceGetVbiosVersion",
        }
        told = {name: self._call(function, self.device) for name, function in names.items()}
        told["driver"] = self._call("nvmlSystemGetDriverVersion")
        return {"monitor": "nvml"} | {name: str(value) for name, value in told.items() if value is not None}

    def _ask(self, function: str, *arguments: Any, scale: float = 1.0) -> float | None:
        value = self._call(function, *arguments)
        return None if value is None else float(value) * scale

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self.nvml, function)(*arguments)
        except (AttributeError, self.nvml.NVMLError):
            return None


class TorchMonitor(Monitor):
    """Readings that torch passes on from amdsmi on ROCm."""

    def read(self) -> Mapping[str, float]:
        """Return clock, temperature and power."""
        import torch

        cuda = torch.cuda
        asked: Mapping[str, tuple[Callable[[], float], float]] = {
            "clock_mhz": (cuda.clock_rate, 1.0),
            "temp_c": (cuda.temperature, 1.0),
            "power_w": (cuda.power_draw, 1e-3),
        }
        found = {}
        for name, (function, scale) in asked.items():
            try:
                found[name] = float(function()) * scale
            except (ImportError, RuntimeError):
                continue
        return found

    def provenance(self) -> Mapping[str, str]:
        """Return where the readings come from."""
        return {"monitor": "amdsmi through torch; throttle reasons and other processes are not known"}


def pick_monitor() -> Monitor:
    """Return NVML's readings of the current device, torch's on ROCm, or none where pynvml is missing."""
    import torch

    if torch.version.hip:
        return TorchMonitor()
    try:
        import pynvml
    except ImportError:
        return Monitor()
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return NvmlMonitor(pynvml, f"GPU-{uuid}" if uuid else None)
