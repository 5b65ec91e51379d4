"""Readings of the machine from /proc and /sys: who it is, and whether something else runs on it."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path

PROC, SYS = Path("/proc"), Path("/sys")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
#: Above these shares of time another program is in the way (PSI: kernel.org/doc/Documentation/accounting/psi.rst).
MAX_PSI_CPU, MAX_PSI_MEMORY, MAX_STEAL = 0.05, 0.01, 0.02


def text(path: Path) -> str:
    """Return a file's text, empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def cpu_field(name: str) -> str:
    """Return a field of the first processor in /proc/cpuinfo, e.g. "model name"; empty if absent."""
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.*)$", text(PROC / "cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else ""


def cpu_name() -> str:
    """Return the processor's name and the cores this process may use."""
    name = cpu_field("model name") or platform.processor() or platform.machine()
    return f"{name}, {num_cores()} cores"


def num_cores() -> int:
    """Return the cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def memory_bytes() -> int:
    """Return the machine's memory, or the control group's limit where that is less."""
    found = re.search(r"^MemTotal:\s*(\d+) kB", text(PROC / "meminfo"), re.MULTILINE)
    total = int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = text(SYS / "fs/cgroup/memory.max").strip()
    return min(total, int(limit)) if limit.isdigit() else total


def cache_bytes() -> int:
    """Return the bytes of the last-level cache that the first core sees; 32 MiB where the system does not say."""
    sizes = [text(path) for path in (SYS / "devices/system/cpu/cpu0/cache").glob("index*/size")]
    known = [
        int(size.strip()[:-1]) * _UNITS[size.strip()[-1]] for size in sizes if size.strip()[-1:] in _UNITS
    ]
    return max(known, default=32 * 2**20)


def pressure(resource: str) -> float:
    """Return the share of the last 10 s in which some task waited for "cpu", "memory" or "io"."""
    found = re.search(r"^some avg10=([\d.]+)", text(PROC / "pressure" / resource), re.MULTILINE)
    return float(found[1]) / 100 if found else 0.0


class Steal:
    """Share of the cores' time that the hypervisor gave to others since the last reading."""

    def __init__(self) -> None:
        self.last = self._jiffies()

    def read(self) -> float:
        """Return the share since the last call, 0 at first."""
        now, before = self._jiffies(), self.last
        self.last = now
        elapsed = sum(now) - sum(before)
        return (now[7] - before[7]) / elapsed if elapsed > 0 else 0.0

    @staticmethod
    def _jiffies() -> list[int]:
        line = (
            text(PROC / "stat").split("\n", 1)[0].split()[1:9]
        )  # user nice system idle iowait irq softirq steal
        return [int(field) for field in line] if len(line) == 8 else [0] * 8


class Rapl:
    """Power of the processor packages from Intel's and AMD's energy counters, where they may be read."""

    def __init__(self) -> None:
        packages = (SYS / "class/powercap").glob("intel-rapl:*")
        self.counters = [path / "energy_uj" for path in packages if path.name.count(":") == 1]
        self.counters = [path for path in self.counters if text(path)]
        self.last = (time.monotonic(), self._joules())

    def read(self) -> float | None:
        """Return mean watts since the last call; None without a counter, or where one wrapped meanwhile."""
        now = (time.monotonic(), self._joules())
        seconds, joules = now[0] - self.last[0], now[1] - self.last[1]
        self.last = now
        return joules / seconds if self.counters and seconds > 0 and joules >= 0 else None

    def _joules(self) -> float:
        return sum(int(text(path) or 0) for path in self.counters) * 1e-6


def readings(steal: Steal) -> dict[str, float]:
    """Return what tells whether the machine's cores are free and at speed."""
    found = {
        "psi_cpu": pressure("cpu"),
        "psi_memory": pressure("memory"),
        "steal": steal.read(),
        "load": os.getloadavg()[0],
    }
    mhz = cpu_field("cpu MHz")
    return {**found, "clock_mhz": float(mhz)} if mhz else found


def in_the_way(state: Mapping[str, float]) -> list[str]:
    """Return which readings say that other programs share the cores or the memory."""
    limits = {"psi_cpu": MAX_PSI_CPU, "psi_memory": MAX_PSI_MEMORY, "steal": MAX_STEAL}
    return [
        f"{name} {state[name]:.1%} is above {limit:.0%}"
        for name, limit in limits.items()
        if state.get(name, 0) > limit
    ]


def provenance() -> dict[str, str]:
    """Return the machine's description: processor, kernel, governor, NUMA nodes, and the settings of libraries."""
    flags = set(cpu_field("flags").split() or cpu_field("Features").split())
    wide = sorted(
        flag for flag in flags if flag.startswith(("avx512_bf16", "amx_", "avx512f", "avx2", "bf16", "sve"))
    )
    settings = {
        key: value for key, value in os.environ.items() if key.startswith(("OMP_", "MKL_", "KMP_", "TORCH_"))
    }
    governor = text(SYS / "devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    return {
        "processor": cpu_name(),
        "instructions": " ".join(wide),
        "kernel": platform.release(),
        "governor": governor or "not readable",
        "numa_nodes": text(SYS / "devices/system/node/online").strip() or "not readable",
        "transparent_huge_pages": text(SYS / "kernel/mm/transparent_hugepage/enabled").strip()
        or "not readable",
        "environment": " ".join(f"{key}={value}" for key, value in sorted(settings.items())),
    }
