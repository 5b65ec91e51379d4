"""Ctrl-C, SIGTERM and a full disk: a result folder is whole or is not there, and a result of before stays."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

SCENARIO = """\
name: small
horizon: 20 s
fleet:
  - site: us-iowa
    clusters:
      - {name: pool, node: hgx-h100}
deployments:
  - {name: serve, model: qwen3-8b, on: pool}
workload:
  name: asks
  arrivals: {kind: poisson, rate: 3 req/s}
  lengths: {kind: fixed, input: 100, answer: 20}
"""
BENCH = {
    "mean_ttft_ms": 30.0,
    "mean_tpot_ms": 8.0,
    "completed": 60,
    "duration": 20.0,
    "request_throughput": 3.0,
}
#: Command -> (arguments, what it writes).
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "run": (("run", "small.yaml", "--out", "there/out"), "there/out"),
    "compare": (
        ("compare", "small.yaml", "--vary", "deployments.0.replicas=2", "--replications", "2", "--out", "there/out"),
        "there/out",
    ),
    "claims": (("claims", "A8", "--html", "page.html"), "page.html"),
    "calibrate-from": (("calibrate-from", "bench.json", "--scenario", "small.yaml", "--out", "engine.yaml"), "engine.yaml"),
}  # fmt: skip
MAIN = "from clustersim.cli import main; main()"
#: The same, stopped by a signal while it writes.
STOPPED = """\
import os, sys
from clustersim.report import whole
number = int(sys.argv.pop(1))
real = whole._room
def room(target):
    made = real(target)
    os.kill(os.getpid(), number)
    return made
whole._room = room
from clustersim.cli import main
main()
"""
#: The same on a disk that takes files of 100 bytes.
ON_A_FULL_DISK = """\
import resource, sys
from clustersim.report import whole
real = whole._room
def room(target):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    return real(target)
whole._room = room
from clustersim.cli import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SCENARIO)
    (tmp_path / "bench.json").write_text(json.dumps(BENCH))
    return tmp_path


def start(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "number"),
    [("run", INT), ("run", TERM), ("compare", TERM), ("claims", TERM), ("calibrate-from", INT)],
)
def test_stopped_while_writing(command: str, number: signal.Signals, folder: Path) -> None:
    before = everything(folder)
    process = start(folder, STOPPED, str(int(number)), *COMMANDS[command][0])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + number, errors
    assert "stopped; a result is written whole or not at all" in errors
    assert "Traceback" not in errors
    assert everything(folder) == before


@pytest.mark.parametrize("command", ["run", "claims"])
def test_on_a_full_disk(command: str, folder: Path) -> None:
    before = everything(folder)
    process = start(folder, ON_A_FULL_DISK, *COMMANDS[command][0])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    (line,) = [line for line in errors.splitlines() if "simulations" not in line]
    assert line == f'cannot write "{COMMANDS[command][1]}": File too large'
    assert everything(folder) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts a small disk")
def test_on_a_disk_that_is_full_indeed(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"mount is not allowed: {mounted.stderr.decode().strip()}")
    try:
        process = start(folder, MAIN, "run", "small.yaml", "--out", "disk/out")
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 2, errors
        assert errors == 'cannot write "disk/out": No space left on device\n'
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="sees who is left by /proc")
@pytest.mark.parametrize(("seed", "number"), [(0, INT), (1, TERM)])
def test_stopped_at_any_time_with_all_its_processes(seed: int, number: signal.Signals, folder: Path) -> None:
    """As a terminal does it (Ctrl-C goes to every process) or as `kill` does (SIGTERM goes to one)."""
    out = folder / "there" / "out"
    start(folder, MAIN, *COMMANDS["run"][0]).communicate(timeout=300)
    before = everything(folder)
    process = start(folder, MAIN, *COMMANDS["run"][0], "--replications", "8", "--set", "horizon=2000 s")
    time.sleep(random.Random(seed).uniform(1, 5))
    os.killpg(process.pid, number) if number == INT else process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    after = everything(folder)
    assert process.returncode in (0, 128 + number, -number), (
        errors
    )  # -number: before it had read its own code
    assert after.keys() == before.keys(), "something is left beside the result"
    if process.returncode:
        assert after == before
        assert "Traceback" not in errors, errors
    assert json.loads((out / "result.json").read_text())["scenario"] == "small"
    for _ in range(100):
        if not alive(process.pid):
            return
        time.sleep(0.2)
    raise AssertionError(f"left running: {alive(process.pid)}")


def alive(group: int) -> list[str]:
    """Return the processes of a group, by name, that are not over."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = file.read_text().rsplit(")", 1)
        except OSError:  # it ended meanwhile
            continue
        state, _, its_group = rest.split()[:3]
        if int(its_group) == group and state not in "ZX":
            found.append(name)
    return found


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_nowhere_to_print(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", MAIN, "list", "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == 2
    assert ran.stderr == "cannot print the result: No space left on device\n"


def test_a_reader_that_leaves(folder: Path) -> None:
    ran = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "{MAIN}" list models | head -n 1'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    assert len(ran.stdout.splitlines()) == 1
