"""A GPU through torch: CUDA, and ROCm, which torch gives the same interface.

Samples are differences of events on the stream. A call so short that several make a sample is captured at least
GRAPH_CALLS times into one graph and the graph replayed, as engines do for decode; what cannot be captured is
launched behind a stalled queue, so that the host's launch latency stays out unless the call asks for it
(`Call.capture` false).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Literal

from calibrate.backend import DeviceBackend, Timed
from calibrate.backends import host
from calibrate.backends.call import Call, clock_of, wishes
from calibrate.backends.monitor import Monitor, Runtime, pick_monitor
from calibrate.case import Clock

#: Least copies of a call in a graph: the launch of the graph itself, some 10 us, is then under 0.1 us a call.
GRAPH_CALLS = 100
#: The queue is stalled this long for each call before it, more than a launch takes, and at most for STALL_MOST_S.
STALL_PER_CALL_S, STALL_MOST_S = 20e-6, 5e-3
#: A clock this much below its maximum under load counts as throttled (aiconfigurator's collector: 10 %).
CLOCK_DROP = 0.10


class CudaBackend(DeviceBackend):
    """One GPU, the process's current one. `runtime` and `monitor` are recorded ones in tests."""

    kind: Literal["cpu", "gpu"] = "gpu"
    clock: Clock = "event"

    def __init__(self, runtime: Runtime, monitor: Monitor | None = None) -> None:
        self.runtime = runtime
        self.monitor = pick_monitor() if monitor is None else monitor
        self.graphs: weakref.WeakKeyDictionary[Timed, tuple[int, Callable[[], None] | None]]
        self.graphs = weakref.WeakKeyDictionary()
        self.replayed = False

    @property
    def name(self) -> str:
        """Return the name that the driver gives."""
        return self.runtime.name

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Return bf16, and fp8 where the device has OCP's e4m3: NVIDIA from 8.9, AMD from gfx950."""
        return self.runtime.dtypes

    @property
    def torch_device(self) -> str:
        """Return "cuda", for ROCm too."""
        return "cuda"

    @property
    def memory_bytes(self) -> int:
        """Return the device's memory."""
        return self.runtime.memory_bytes

    @property
    def cache_bytes(self) -> int:
        """Return the bytes of its L2."""
        return self.runtime.cache_bytes

    def time(self, call: Timed, calls: int = 1) -> float:
        """Return the seconds of a call by the device's events; see the module for when a graph is replayed."""
        wish = wishes(call)
        if clock_of(call, self.clock) == "wall":
            self.runtime.synchronise()
            return self.runtime.wall(wish.run, calls)
        copies = max(calls, GRAPH_CALLS)
        graph = self._graph(call, wish, copies) if calls > 1 and wish.capture else None
        self.replayed = graph is not None
        total, done = 0.0, 0
        while done == 0 or total < wish.window_s:
            total += self._sample(wish, calls, graph)
            done += calls if graph is None else copies
        return total / done

    def _sample(self, wish: Call, calls: int, graph: Callable[[], None] | None) -> float:
        """Return the seconds between two events around the calls, or around one replay."""
        begin, end = self.runtime.event(), self.runtime.event()
        if graph is None and wish.capture:
            self.runtime.stall(min(STALL_PER_CALL_S * calls, STALL_MOST_S))
        begin.record()
        if graph is None:
            for _ in range(calls):
                wish.run()
        else:
            graph()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3

    def _graph(self, call: Timed, wish: Call, copies: int) -> Callable[[], None] | None:
        """Return the replay of a graph of `copies` calls, captured once; None if it cannot be captured."""
        known = self.graphs.get(call)
        if known is None or known[0] != copies:
            known = (copies, self.runtime.capture(wish.run, copies))
            self.graphs[call] = known
        return known[1]

    def flush_cache(self) -> None:
        """Write to twice the L2."""
        self.runtime.write(2 * self.cache_bytes)

    def synchronise(self) -> None:
        """Wait for the device."""
        self.runtime.synchronise()

    def state(self) -> Mapping[str, float]:
        """Return the monitor's readings, and graph_replay: whether the last sample replayed a graph."""
        return {**self.monitor.read(), "graph_replay": float(self.replayed)}

    def contention(self) -> list[str]:
        """Return other programs on the device, and what keeps its clock down."""
        state = self.monitor.read()
        found = (
            [f"{state['other_pids']:.0f} other processes on the device"] if state.get("other_pids") else []
        )
        found += [f"throttled: {reason}" for reason in self.monitor.throttle_reasons()]
        clock, most = state.get("clock_mhz", 0.0), state.get("clock_max_mhz", 0.0)
        if state.get("busy", 1.0) and clock < most * (1 - CLOCK_DROP):
            found.append(f"throttled: clock {clock:.0f} MHz of {most:.0f}")
        return found

    def provenance(self) -> Mapping[str, str]:
        """Return driver, libraries, clocks and limits of the device, and the host's description."""
        return {**host.provenance(), **self.runtime.provenance(), **self.monitor.provenance()}


class TorchRuntime:
    """What `CudaBackend` needs of torch.cuda."""

    def __init__(self) -> None:
        import torch

        torch.set_grad_enabled(False)
        self.torch = torch
        self.device = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.buffer: Any = None

    @staticmethod
    def available() -> bool:
        """Say whether torch finds a device."""
        import torch

        return bool(torch.cuda.is_available())

    @property
    def name(self) -> str:
        """Return the device's name."""
        return str(self.device.name)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Return the types that torch multiplies in on this device."""
        if self.torch.version.hip:
            return ("bf16", "fp8") if str(self.device.gcnArchName).startswith("gfx95") else ("bf16",)
        return ("bf16", "fp8") if (self.device.major, self.device.minor) >= (8, 9) else ("bf16",)

    @property
    def memory_bytes(self) -> int:
        """Return the device's memory."""
        return int(self.device.total_memory)

    @property
    def cache_bytes(self) -> int:
        """Return its L2 (MI300's 256 MB Infinity Cache is not in it: flush and rotation then cover 256 MiB)."""
        size = int(self.device.L2_cache_size)
        return max(size, 256 * 2**20) if self.torch.version.hip else size

    def event(self) -> Any:
        """Return an event that records time."""
        return self.torch.cuda.Event(enable_timing=True)

    def synchronise(self) -> None:
        """Wait for the device."""
        self.torch.cuda.synchronize()

    def wall(self, run: Callable[[], Any], calls: int) -> float:
        """Return wall seconds of a call, until the device has ended."""
        import time

        begin = time.perf_counter()
        for _ in range(calls):
            run()
        self.torch.cuda.synchronize()
        return (time.perf_counter() - begin) / calls

    def stall(self, seconds: float) -> None:
        """Keep the stream busy about so long, counted at 2 GHz."""
        self.torch.cuda._sleep(int(seconds * 2e9))

    def capture(self, run: Callable[[], Any], calls: int) -> Callable[[], None] | None:
        """Return the replay of a graph of `calls` calls, None if the call cannot be captured (it synchronises)."""
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                for _ in range(calls):
                    run()
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        graph.replay()
        torch.cuda.synchronize()
        replay: Callable[[], None] = graph.replay
        return replay

    def write(self, num_bytes: int) -> None:
        """Write to a buffer of so many bytes."""
        if self.buffer is None:
            self.buffer = self.torch.empty(num_bytes // 4, dtype=self.torch.int32, device="cuda")
        self.buffer.zero_()

    def provenance(self) -> Mapping[str, str]:
        """Return torch's version and those of the libraries it was built with."""
        torch, device = self.torch, self.device
        return {
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda or ""),
            "hip": str(torch.version.hip or ""),
            "cudnn": str(torch.backends.cudnn.version() or ""),
            "capability": f"{device.major}.{device.minor}",
            "processors": str(device.multi_processor_count),
            "cache_bytes": str(self.cache_bytes),
            "memory_bytes": str(self.memory_bytes),
        }
