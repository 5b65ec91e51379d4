"""Readings of /proc and /sys, from files whose contents are known."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from calibrate.backends import host


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(host, "PROC", tmp_path / "proc")
    monkeypatch.setattr(host, "SYS", tmp_path / "sys")
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "sys").mkdir()
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_readings_of_a_known_machine(machine) -> None:
    write(
        machine / "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Some CPU\ncpu MHz\t\t: 3100.5\nflags\t\t: avx2 amx_bf16\n",
    )
    write(machine / "proc/pressure/cpu", "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00\n")
    write(machine / "proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n")
    write(machine / "proc/stat", "cpu 100 0 0 100 0 0 0 0 0 0\n")
    write(machine / "proc/meminfo", "MemTotal:       1000 kB\n")
    for index, size in (("index0", "48K"), ("index3", "32768K")):
        write(machine / f"sys/devices/system/cpu/cpu0/cache/{index}/size", f"{size}\n")
    assert host.cpu_name().startswith("Some CPU, ")
    assert host.cache_bytes() == 32 * 2**20
    assert host.memory_bytes() == 1000 * 1024
    steal = host.Steal()
    write(machine / "proc/stat", "cpu 150 0 0 140 0 0 0 10 0 0\n")
    state = host.readings(steal)
    assert state["psi_cpu"] == 0.125
    assert state["steal"] == pytest.approx(0.10)
    assert state["clock_mhz"] == 3100.5
    assert [reason.split()[0] for reason in host.in_the_way(state)] == ["psi_cpu", "steal"]
    assert "amx_bf16" in host.provenance()["instructions"]


def test_a_machine_that_tells_nothing(machine) -> None:
    assert host.cpu_field("model name") == ""
    assert host.cache_bytes() == 32 * 2**20
    assert host.memory_bytes() > 0
    assert host.in_the_way(host.readings(host.Steal())) == []
    assert host.Rapl().read() is None


def test_container_limit_bounds_memory(machine) -> None:
    write(machine / "proc/meminfo", "MemTotal:       1000 kB\n")
    write(machine / "sys/fs/cgroup/memory.max", "2048\n")
    assert host.memory_bytes() == 2048
    write(machine / "sys/fs/cgroup/memory.max", "max\n")
    assert host.memory_bytes() == 1000 * 1024


def test_rapl_counts_packages_and_not_their_parts(machine) -> None:
    counter = machine / "sys/class/powercap/intel-rapl:0/energy_uj"
    write(counter, "1000000\n")
    write(machine / "sys/class/powercap/intel-rapl:0:0/energy_uj", "9\n")
    rapl = host.Rapl()
    assert rapl.counters == [counter]
    rapl.last = (time.monotonic() - 2.0, 1.0)
    write(counter, "101000000\n")
    assert rapl.read() == pytest.approx(50.0, rel=0.01)
    write(counter, "5\n")
    assert rapl.read() is None, "the counter wrapped"
