"""What this host can measure, what is missing, and what to do about it. Nothing is measured or changed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from calibrate import contention

Verdict = Literal["ok", "missing", "note"]
#: Where `ray start` writes the address of the cluster that this host belongs to (ray._common.utils, 2.60).
_RAY_CLUSTER = Path("/tmp/ray/ray_current_cluster")


class Finding(NamedTuple):
    """One thing looked at: what is so, what that costs, and the remedy."""

    subject: str
    verdict: Verdict
    what: str
    remedy: str = ""


def examine(proc: Path = Path("/proc"), system: Path = Path("/sys")) -> list[Finding]:
    """Return every finding on this host; those that keep anything from being measured first."""
    found = [
        *_packages(),
        *_gpu(),
        _pressure(proc),
        _governor(system),
        _turbo(system),
        _huge_pages(system),
        _counters(proc),
        _threads(),
        _cluster(),
        _tcp(proc),
        _namespaces(proc),
        _load(),
        *_measurable(),
        _profiles(),
    ]
    rank = {"missing": 0, "note": 1, "ok": 2}
    return sorted(found, key=lambda finding: rank[finding.verdict])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _packages() -> Iterator[Finding]:
    for name, use, extra in (
        ("torch", "every operator", "calibrate"),
        ("pyarrow", "tables", "calibrate"),
        ("ray", "several nodes or devices at once", "calibrate"),
        ("triton", "the kernels of kernels/", "kernels"),
    ):
        if importlib.util.find_spec(name):
            yield Finding(name, "ok", f"installed: {use}")
        else:
            verdict: Verdict = "missing" if name in ("torch", "pyarrow") else "note"
            yield Finding(name, verdict, f"not installed: {use}", f"pip install 'clustersim[{extra}]'")


def _gpu() -> Iterator[Finding]:
    tool = shutil.which("nvidia-smi") or shutil.which("rocm-smi")
    if tool is None:
        remedy = "on a GPU machine: install its driver; else this host's CPU is measured"
        yield Finding("GPU", "note", "no nvidia-smi or rocm-smi: no GPU of this host can be measured", remedy)
        return
    yield Finding("GPU", "ok", _said([tool, "-L"]) or f"{tool} is there")
    if not importlib.util.find_spec("pynvml"):
        what = "pynvml is not installed: clocks, power, throttling and other programs on the GPU go unseen"
        yield Finding("NVML", "missing", what, "pip install nvidia-ml-py")
    else:
        yield Finding("NVML", "ok", "clocks, power and throttling can be read")


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(done.stdout.strip().splitlines()[:8])


def _pressure(proc: Path) -> Finding:
    if _text(proc / "pressure" / "cpu"):
        return Finding("pressure (PSI)", "ok", "waiting for CPU, memory and I/O can be read")
    what = "/proc/pressure is not readable: contention is judged by others' CPU time and steal alone"
    return Finding("pressure (PSI)", "missing", what, "boot a kernel of 4.20 or newer with psi=1")


def _governor(system: Path) -> Finding:
    governor = _text(system / "devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not governor:
        return Finding(
            "CPU governor", "note", "not readable (usual in virtual machines): clocks may vary unseen"
        )
    if governor == "performance":
        return Finding("CPU governor", "ok", "performance")
    remedy = "sudo cpupower frequency-set -g performance, for the time of the measurement"
    return Finding("CPU governor", "note", f"{governor}: short operators may be timed at a low clock", remedy)


def _turbo(system: Path) -> Finding:
    off = _text(system / "devices/system/cpu/intel_pstate/no_turbo")
    if off == "0":
        what = "on: bursts run above the clock that is sustained (both peaks are written)"
        return Finding(
            "turbo", "note", what, "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
        )
    return Finding("turbo", "ok", "off" if off == "1" else "not told")


def _huge_pages(system: Path) -> Finding:
    setting = _text(system / "kernel/mm/transparent_hugepage/enabled")
    if "[never]" in setting:
        what = "never: large operands miss the TLB, which costs bandwidth on a CPU"
        remedy = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
        return Finding("huge pages", "note", what, remedy)
    return Finding("huge pages", "ok", setting or "not told")


def _counters(proc: Path) -> Finding:
    level = _text(proc / "sys/kernel/perf_event_paranoid")
    if level and int(level) <= 1 and shutil.which("perf"):
        return Finding("perf counters", "ok", f"perf is there, perf_event_paranoid {level}")
    what = "not readable: cache misses and instructions cannot be told (nothing here needs them)"
    return Finding("perf counters", "note", what, "install perf; sudo sysctl kernel.perf_event_paranoid=1")


def _threads() -> Finding:
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    what = f"{cores} cores may be used; OMP_NUM_THREADS {given or 'is not set'}"
    return Finding("cores", "ok", what)


def _namespaces(proc: Path) -> Finding:
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    ready = root and shutil.which("ip") is not None and (proc / "self/ns/net").exists()
    if ready:
        return Finding("network namespaces", "ok", "links of known rate can be made, to check the link fits")
    what = "need root and iproute2: the link fits cannot be checked against links of known rate"
    return Finding("network namespaces", "note", what, "run `check` as root in a container with iproute2")


def _cluster() -> Finding:
    """Whether `run --address auto` would find a Ray cluster, as `ray.init("auto")` looks for one (2.60)."""
    guide = "docs/howto/calibrate-a-cluster.md"
    told = os.environ.get("RAY_ADDRESS") or _text(_RAY_CLUSTER)
    if not told:
        what = (
            "none at hand: this host's own devices alone, no links to others and no collectives between nodes"
        )
        return Finding("Ray cluster", "note", what, f"start one on every node: {guide}")
    token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or token or (Path.home() / ".ray/auth_token").exists():
        return Finding("Ray cluster", "ok", f"{told}: python -m calibrate run --address auto --out FOLDER")
    what = f"{told}, and no token: a cluster that wants one refuses this host"
    return Finding("Ray cluster", "note", what, f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=...: {guide}")


def _tcp(proc: Path) -> Finding:
    control = _text(proc / "sys/net/ipv4/tcp_congestion_control")
    return Finding(
        "TCP", "ok", f"{control or 'not told'} paces it: collectives over TCP are measured with that"
    )


def _measurable() -> Iterator[Finding]:
    """Say in words what a run here would measure; the rows above say why not more."""
    torch, triton, ray = (bool(importlib.util.find_spec(name)) for name in ("torch", "triton", "ray"))
    gpus = any(shutil.which(tool) for tool in ("nvidia-smi", "rocm-smi"))
    if not torch:
        yield Finding("can be measured", "missing", "nothing: every operator needs torch", "see torch")
        return
    what = ["operators on the GPU" if gpus else "operators on the CPU"]
    if triton and gpus:
        what.append("the kernels of kernels/")
    if ray:
        over = "NCCL" if gpus else "TCP (gloo)"
        what.append(f"on a Ray cluster: links and collectives over {over}, and every device at once")
    yield Finding("can be measured", "ok", "; ".join(what))


def _load() -> Finding:
    reasons = contention.Gate().judge(contention.look(0.5), on_cpu=False)
    if not reasons:
        return Finding("other programs", "ok", "quiet for half a second")
    remedy = "stop them, or give --allow-contended and get a profile that says so"
    return Finding("other programs", "missing", "; ".join(reasons), remedy)


def _profiles() -> Finding:
    from clustersim.cost.profile import user_folder

    folder = user_folder()
    found = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob("*/*/profile.yaml"))
    return Finding(
        "your profiles", "ok", f"{folder}: {', '.join(found) or 'none yet'} (Python {sys.version.split()[0]})"
    )
