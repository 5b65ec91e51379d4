"""The CPU backend on this machine, and the GPU backend's logic over recordings (made up: no GPU wrote them)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from calibrate.backends import cpu as cpu_backend  # noqa: E402
from calibrate.backends import pick_backend  # noqa: E402
from calibrate.backends.call import Call, clock_of, wishes  # noqa: E402
from calibrate.backends.cpu import CpuBackend  # noqa: E402
from calibrate.backends.cuda import GRAPH_CALLS, CudaBackend  # noqa: E402
from calibrate.backends.monitor import Monitor, NvmlMonitor  # noqa: E402
from calibrate.backends.recorded import RecordedMonitor, recorded_backend  # noqa: E402
from clustersim.errors import InputError  # noqa: E402

DEVICE = {"name": "Recorded H100", "dtypes": ["bf16", "fp8"], "memory_bytes": 80e9, "cache_bytes": 50 * 2**20}


def gpu(**more) -> CudaBackend:
    return recorded_backend({"device": DEVICE, **more})


def nothing() -> None:
    return None


# ---- CPU ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cpu() -> CpuBackend:
    return CpuBackend()


def test_cpu_describes_itself(cpu) -> None:
    assert cpu.kind == "cpu"
    assert cpu.clock == "cpu"
    assert cpu.accelerator == "local-cpu"
    assert "cores" in cpu.name
    assert "fp32" in cpu.dtypes
    assert cpu.memory_bytes > 2**28
    assert 2**18 <= cpu.cache_bytes <= 2**32
    told = cpu.provenance()
    assert told["torch"] == torch.__version__
    assert told["bf16"] in ("emulated", "amx_bf16", "avx512_bf16", "bf16")
    assert all(isinstance(value, str) for value in told.values())
    state = cpu.state()
    assert {"psi_cpu", "psi_memory", "steal", "load"} <= set(state)
    assert all(isinstance(reason, str) for reason in cpu.contention())


def test_cpu_time_leaves_sleep_out_and_wall_time_counts_it(cpu) -> None:
    assert cpu.time(lambda: time.sleep(0.02)) < 0.01
    assert cpu.time(Call(lambda: time.sleep(0.02), clock="wall")) >= 0.02


def test_time_is_the_mean_of_the_calls_and_of_the_window(cpu, monkeypatch) -> None:
    done = []
    cpu.time(lambda: done.append(1), calls=7)
    assert len(done) == 7
    done.clear()
    monkeypatch.setattr(cpu_backend.time, "perf_counter", lambda: 0.25 * len(done))
    monkeypatch.setitem(cpu_backend._READ, "wall", lambda: 0.25 * len(done))
    assert cpu.time(Call(lambda: done.append(1), clock="wall", window_s=2.1)) == 0.25
    assert len(done) == 9


def test_flush_writes_twice_the_cache(cpu) -> None:
    cpu.flush_cache()
    assert cpu._flush.numel() * 8 >= 2 * cpu.cache_bytes


def test_more_threads_are_timed_by_the_wall() -> None:
    try:
        assert CpuBackend(threads=2).clock == "wall"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_pick_backend() -> None:
    assert pick_backend("cpu").kind == "cpu"
    with pytest.raises(InputError, match="cuda"):
        pick_backend("cudda")
    if not torch.cuda.is_available():
        assert pick_backend().kind == "cpu"
        with pytest.raises(RuntimeError, match="no cuda device"):
            pick_backend("cuda")


def test_torch_is_imported_by_the_implementations_alone() -> None:
    check = "import sys, calibrate.backends, calibrate.benches as b; b.benches(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


# ---- GPU ---------------------------------------------------------------------------------------------------------


def test_one_call_is_timed_between_events_behind_a_full_queue() -> None:
    backend = gpu(event_ms=[2.0, 4.0])
    launched = []
    assert backend.time(lambda: launched.append(1)) == 2e-3
    assert backend.runtime.journal == ["stall", "record", "record", "synchronise"]
    assert backend.time(lambda: launched.append(1)) == 4e-3
    assert len(launched) == 2
    assert backend.state()["graph_replay"] == 0.0


def test_short_calls_are_replayed_from_one_graph() -> None:
    backend = gpu(event_ms=[0.5])
    launched = []

    def call() -> None:
        launched.append(1)

    assert backend.time(call, calls=4) == pytest.approx(0.5e-3 / GRAPH_CALLS)
    assert backend.time(call, calls=4) == pytest.approx(0.5e-3 / GRAPH_CALLS)
    journal = backend.runtime.journal
    assert journal.count(f"capture {GRAPH_CALLS}") == 1, "captured once, replayed twice"
    assert journal.count(f"replay {GRAPH_CALLS}") == 2
    assert "stall" not in journal
    assert backend.state()["graph_replay"] == 1.0
    assert len(launched) == GRAPH_CALLS
    backend.time(call, calls=3 * GRAPH_CALLS)
    assert f"capture {3 * GRAPH_CALLS}" in journal


def test_a_call_that_cannot_be_captured_is_launched() -> None:
    backend = gpu(event_ms=[0.5], captures=False)
    launched = []
    assert backend.time(lambda: launched.append(1), calls=10) == pytest.approx(0.5e-4)
    assert len(launched) == 10
    assert backend.runtime.journal == ["stall", "record", "record", "synchronise"]


def test_eager_launches_are_neither_captured_nor_stalled() -> None:
    backend = gpu(event_ms=[1.0])
    assert backend.time(Call(nothing, capture=False), calls=200) == pytest.approx(1e-3 / 200)
    assert backend.runtime.journal == ["record", "record", "synchronise"]


def test_a_window_repeats_until_it_is_full() -> None:
    backend = gpu(event_ms=[100.0])
    assert backend.time(Call(nothing, window_s=0.95)) == pytest.approx(0.1)
    assert backend.runtime.journal.count("record") == 20


def test_wall_clock_on_a_gpu() -> None:
    backend = gpu(event_ms=[3.0])
    assert backend.time(Call(nothing, clock="wall")) == 3e-3
    assert "record" not in backend.runtime.journal


def test_flush_writes_twice_the_l2_and_the_sizes_are_the_devices() -> None:
    backend = gpu()
    backend.flush_cache()
    backend.synchronise()
    assert backend.runtime.journal == [f"write {100 * 2**20}", "synchronise"]
    assert (backend.name, backend.dtypes) == ("Recorded H100", ("bf16", "fp8"))
    assert (backend.memory_bytes, backend.cache_bytes) == (80 * 10**9, 50 * 2**20)
    assert (backend.kind, backend.clock, backend.torch_device) == ("gpu", "event", "cuda")
    assert backend.provenance()["recorded"] == "Recorded H100"


FREE = {"clock_mhz": 1980.0, "clock_max_mhz": 1980.0, "throttle": 0.0, "other_pids": 0.0, "busy": 1.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"throttle": 0x1, "busy": 0.0, "clock_mhz": 345.0}, []),  # idle: a low clock is no trouble
        ({"throttle": 0x4}, ["throttled: software power cap"]),
        ({"throttle": 0x40 | 0x8}, ["throttled: hardware slowdown", "throttled: hardware thermal slowdown"]),
        ({"clock_mhz": 1700.0}, ["throttled: clock 1700 MHz of 1980"]),
        ({"other_pids": 2.0}, ["2 other processes on the device"]),
    ],
)
def test_contention_and_throttling(change, words) -> None:
    assert gpu(readings=[{**FREE, **change}]).contention() == words


def test_readings_move_on_with_the_recording() -> None:
    backend = gpu(readings=[{**FREE, "power_w": 100.0}, {**FREE, "power_w": 700.0, "throttle": 4.0}])
    assert isinstance(backend.monitor, RecordedMonitor)
    assert backend.state()["power_w"] == 100.0
    backend.monitor.advance()
    assert backend.state()["power_w"] == 700.0
    assert backend.contention() == ["throttled: software power cap"]


def test_a_recording_may_be_a_file(tmp_path) -> None:
    path = tmp_path / "device.json"
    path.write_text(json.dumps({"device": DEVICE, "event_ms": [7.0]}))
    assert recorded_backend(path).time(nothing) == 7e-3


class FakeNvml:
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVMLError = type("NVMLError", (Exception,), {})

    def __getattr__(self, name: str):
        answers = {
            "nvmlInit": None, "nvmlDeviceGetHandleByIndex": "gpu", "nvmlDeviceGetClockInfo": 1500,
            "nvmlDeviceGetMaxClockInfo": 1980, "nvmlDeviceGetTemperature": 61, "nvmlDeviceGetPowerUsage": 350_500,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4, "nvmlSystemGetDriverVersion": "999.1",
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=1)],
        }  # fmt: skip
        if name not in answers:
            raise AttributeError(name)
        return lambda *_: answers[name]


def test_nvml_readings_and_what_the_driver_does_not_support() -> None:
    monitor = NvmlMonitor(FakeNvml())
    read = monitor.read()
    assert read["power_w"] == 350.5
    assert read["temp_c"] == 61.0
    assert read["other_pids"] == 1.0
    assert read["busy"] == 1.0
    assert monitor.throttle_reasons() == ["software power cap"]
    assert monitor.provenance() == {"monitor": "nvml", "driver": "999.1"}

    class Refuses(FakeNvml):
        def nvmlDeviceGetPowerUsage(self, _):  # noqa: N802
            raise self.NVMLError

    assert "power_w" not in NvmlMonitor(Refuses()).read()


def test_without_a_monitor_nothing_is_claimed() -> None:
    monitor = Monitor()
    assert monitor.read() == {}
    assert monitor.throttle_reasons() == []
    assert "not known" in monitor.provenance()["monitor"]


def test_wishes() -> None:
    assert wishes(nothing) == Call(nothing)
    assert clock_of(nothing, "event") == "event"
    assert clock_of(Call(nothing, clock="wall"), "cpu") == "wall"
    assert Call(lambda: 3)() == 3
