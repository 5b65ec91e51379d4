"""Is this host free? Readings of what else it did while a case was timed, and the gate that judges them.

Everything is read from /proc and getrusage, so that it costs microseconds; what a platform lacks is left out
of the readings, and `python -m calibrate doctor` says so.
"""

from __future__ import annotations

import math
import os
import re
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
#: Shorter intervals are not judged: /proc/stat counts in ticks of 10 ms.
SHORTEST_S = 0.2


@dataclass(frozen=True)
class Reading:
    """Counters since boot (or process start) at one moment; a missing key was not readable here."""

    at_s: float
    counters: Mapping[str, float] = field(default_factory=dict)
    load: float = 0.0


def read(proc: Path = PROC) -> Reading:
    """Read this host and process now."""
    counters: dict[str, float] = {}
    for name, kind in (("cpu", "some"), ("memory", "full"), ("io", "full")):
        if (total := _pressure_s(proc / "pressure" / name, kind)) is not None:
            counters[f"psi_{name}_s"] = total
    ticks = _first_numbers(proc / "stat", "cpu ")
    if len(ticks) >= 8:
        hertz = float(os.sysconf("SC_CLK_TCK"))
        user, nice, system, _idle, _wait, irq, soft_irq, steal = ticks[:8]
        counters["busy_s"] = (user + nice + system + irq + soft_irq) / hertz
        counters["steal_s"] = steal / hertz
    own = resource.getrusage(resource.RUSAGE_SELF)
    counters["own_s"] = own.ru_utime + own.ru_stime
    counters["switches"] = float(own.ru_nivcsw)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return Reading(time.monotonic(), counters, load)


def _pressure_s(path: Path, kind: str) -> float | None:
    try:
        found = re.search(rf"^{kind} .*total=(\d+)", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) * 1e-6 if found else None


def _first_numbers(path: Path, start: str) -> list[float]:
    try:
        line = path.read_text().partition("\n")[0]
    except OSError:
        return []
    return [float(word) for word in line.split()[1:]] if line.startswith(start) else []


def between(before: Reading, after: Reading) -> dict[str, float]:
    """Return rates and shares over the interval; those that could not be read are absent.

    psi_*: share of the time in which tasks waited; others_cpu: share of all CPUs that other processes took;
    cpu_per_wall: CPU seconds of this process a second; switches_per_s: its involuntary context switches.
    """
    wall = max(after.at_s - before.at_s, 1e-9)
    num_cpus = os.cpu_count() or 1
    change = {
        name: after.counters[name] - before.counters[name]
        for name in after.counters
        if name in before.counters
    }
    found = {"interval_s": wall, "load_per_cpu": after.load / num_cpus}
    for name in ("cpu", "memory", "io"):
        if f"psi_{name}_s" in change:
            found[f"psi_{name}"] = change[f"psi_{name}_s"] / wall
    if "busy_s" in change:
        found["others_cpu"] = max(0.0, change["busy_s"] - change["own_s"]) / wall / num_cpus
        found["steal"] = change["steal_s"] / wall / num_cpus
    found["cpu_per_wall"] = change["own_s"] / wall
    found["switches_per_s"] = change["switches"] / wall
    return found


class Threshold(NamedTuple):
    """Above `limit` (or below, where `below`) a reading speaks against the samples taken meanwhile."""

    reading: str
    limit: float
    reason: str
    below: bool = False
    alone: bool = False
    """Judged only where this process computes on the CPU itself."""


#: `load_per_cpu` and `psi_io` are recorded and not judged: the first still shows what ended a minute ago, this
#: program included, and no operator timed here reads a disk.
THRESHOLDS: Sequence[Threshold] = (
    Threshold("psi_cpu", 0.05, "tasks waited for a CPU; a timed loop waits with them"),
    Threshold("psi_memory", 0.01, "every task waited for memory to be reclaimed"),
    Threshold("others_cpu", 0.05, "other processes worked: they take cycles, caches and memory bandwidth"),
    Threshold("steal", 0.01, "the hypervisor ran other guests on these CPUs"),
    Threshold("switches_per_s", 100.0, "the scheduler put others in this process's place"),
    Threshold("cpu_per_wall", 0.9, "this process computes without pause, yet did not run all the time",
              below=True, alone=True),
)  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """Judges readings. A profile with more than `most_frac` of its samples marked is refused unless allowed."""

    thresholds: Sequence[Threshold] = THRESHOLDS
    most_frac: float = 0.1
    """A stray daemon marks a case or two of a hundred; a busy machine marks most."""

    def judge(self, readings: Mapping[str, float], *, on_cpu: bool) -> tuple[str, ...]:
        """Return why samples taken meanwhile are not the device's own; empty if nothing speaks against them."""
        if readings.get("interval_s", math.inf) < SHORTEST_S:
            return ()
        reasons = []
        for each in self.thresholds:
            value = readings.get(each.reading)
            if value is None or (each.alone and not on_cpu):
                continue
            if value < each.limit if each.below else value > each.limit:
                sign = "<" if each.below else ">"
                reasons.append(f"{each.reading} {value:.3g} {sign} {each.limit:g}: {each.reason}")
        return tuple(reasons)

    def refuses(self, marked: int, total: int) -> bool:
        """Return whether so many marked cases make the whole contended."""
        return total > 0 and marked / total > self.most_frac


def look(seconds: float = 1.0) -> dict[str, float]:
    """Return readings over a pause: what the host does when left alone."""
    before = read()
    time.sleep(seconds)
    return between(before, read())
