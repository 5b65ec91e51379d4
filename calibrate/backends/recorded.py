"""A GPU that is not there: replays recorded timings and readings, so that the code around a GPU runs without one.

A recording is plain data:
    device    name, dtypes, memory_bytes, cache_bytes
    event_ms  milliseconds between begin and end of each sample in turn; the last one repeats
    readings  what the driver said each time it was asked in turn; the last one repeats
    captures  whether a graph can be captured
Nothing is launched: calls are counted (`journal`), not run, unless `runs` asks for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from calibrate.backends.cuda import CudaBackend
from calibrate.backends.monitor import Monitor


class RecordedEvent:
    """One end of a recorded sample."""

    def __init__(self, runtime: RecordedRuntime) -> None:
        self.runtime = runtime

    def record(self) -> None:
        """Note it in the journal."""
        self.runtime.journal.append("record")

    def synchronize(self) -> None:
        """Note it in the journal."""
        self.runtime.journal.append("synchronise")

    def elapsed_time(self, end: RecordedEvent) -> float:  # noqa: ARG002 - a contract
        """Return the next recorded milliseconds."""
        return self.runtime.next_ms()


class RecordedRuntime:
    """Stands in for torch.cuda."""

    def __init__(self, recording: Mapping[str, Any]) -> None:
        device = recording["device"]
        self.name: str = device["name"]
        self.dtypes: tuple[str, ...] = tuple(device["dtypes"])
        self.memory_bytes: int = int(device["memory_bytes"])
        self.cache_bytes: int = int(device["cache_bytes"])
        self.event_ms: Sequence[float] = recording.get("event_ms", [1.0])
        self.captures = bool(recording.get("captures", True))
        self.samples = 0
        self.journal: list[str] = []
        """What was asked of the device, in order: launch, record, synchronise, stall, capture n, replay n, write n."""

    def next_ms(self) -> float:
        """Return the recorded time of the next sample."""
        self.samples += 1
        return float(self.event_ms[min(self.samples, len(self.event_ms)) - 1])

    def event(self) -> RecordedEvent:
        """Return an event."""
        return RecordedEvent(self)

    def synchronise(self) -> None:
        """Note it."""
        self.journal.append("synchronise")

    def wall(self, run: Callable[[], Any], calls: int) -> float:  # noqa: ARG002 - a contract
        """Return the next recorded time, of one call."""
        return self.next_ms() * 1e-3 / calls

    def stall(self, seconds: float) -> None:  # noqa: ARG002 - a contract
        """Note it."""
        self.journal.append("stall")

    def capture(self, run: Callable[[], Any], calls: int) -> Callable[[], None] | None:
        """Run the calls as a capture would, and return a replay that only notes itself."""
        if not self.captures:
            return None
        self.journal.append(f"capture {calls}")
        for _ in range(calls):
            run()
        return lambda: self.journal.append(f"replay {calls}")

    def write(self, num_bytes: int) -> None:
        """Note it."""
        self.journal.append(f"write {num_bytes}")

    def provenance(self) -> Mapping[str, str]:
        """Say that nothing here was measured now."""
        return {"recorded": self.name}


class RecordedMonitor(Monitor):
    """Stands in for NVML."""

    def __init__(self, readings: Sequence[Mapping[str, float]]) -> None:
        self.readings = readings
        self.at = 0

    def read(self) -> Mapping[str, float]:
        """Return the reading of this moment; `advance` goes on to the next."""
        return self.readings[min(self.at, len(self.readings) - 1)] if self.readings else {}

    def advance(self) -> None:
        """Go on to the next recorded moment."""
        self.at += 1

    def provenance(self) -> Mapping[str, str]:
        """Say where the readings come from."""
        return {"monitor": "recorded"}


def recorded_backend(recording: Mapping[str, Any] | Path) -> CudaBackend:
    """Return the GPU backend over a recording, or over the JSON file that holds one."""
    data = json.loads(recording.read_text()) if isinstance(recording, Path) else recording
    return CudaBackend(RecordedRuntime(data), RecordedMonitor(data.get("readings", [])))
