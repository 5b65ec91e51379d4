"""What the rows say of the device itself: peaks in bursts and sustained, bandwidth, times of the host, power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from calibrate.fit import Reference, Row, precision_of
from calibrate.law import written
from calibrate.pace import reading_s, reference_s
from clustersim import library
from clustersim.cost.measured import DeviceFigures
from clustersim.cost.profile import Precision
from clustersim.hardware.accelerator import Accelerator, load_accelerator

#: Name of the core's pace among the host's times (see calibrate.pace).
SPACER = "spacer"
#: Operands of so many times the last-level cache come from memory.
_OUT_OF_CACHE = 3.0


def specification(device: str) -> Accelerator | None:
    """Return the built-in specification of a device, or None."""
    return load_accelerator(device) if device in library.names("accelerators") else None


def measured_peaks(rows: Sequence[Row], *, burst: bool) -> dict[Precision, tuple[float, str]]:
    """Return the most FLOP/s that any operator of the cost model reached in each precision, and which one did.

    In a burst: by the median of its five fastest samples. Sustained: by the median of the operators that were
    repeated without pause, each sample the mean of a window (benchmark gemm_peak), or of all where there are none.
    """
    best: dict[Precision, tuple[float, str]] = {}
    if not burst and (windows := [row for row in rows if row.case.op == "sustained"]):
        rows = windows
    for row in rows:
        precision = precision_of(row.planned.family or "gemm", row.case.dtype)
        if precision is None or not row.planned.work.flops:
            continue
        rate = row.planned.work.flops / (row.burst_s if burst else row.summary.median_s)
        if rate > best.get(precision, (0.0, ""))[0]:
            best[precision] = rate, describe(row)
    return best


def measured_bandwidth(rows: Sequence[Row], cache_bytes: float) -> tuple[float, str] | None:
    """Return the most bytes/s of any operator whose operands come from memory, and which it was."""
    moving = [row for row in rows if row.planned.work.bytes]
    large = [row for row in moving if row.planned.work.bytes >= _OUT_OF_CACHE * cache_bytes > 0]
    if not large:
        most = max((row.planned.work.bytes for row in moving), default=0.0)
        large = [row for row in moving if row.planned.work.bytes >= most / 2]
    rates = [(row.planned.work.bytes / row.burst_s, describe(row)) for row in large]
    return max(rates, default=None)


def describe(row: Row) -> str:
    """Return a row's operator and sizes, in words."""
    return " ".join(
        [row.case.op, row.case.dtype, *(f"{name}={size}" for name, size in row.case.shape.items())]
    )


def figures_of(
    rows: Sequence[Row], hello: Mapping[str, Any], device: str, date: str
) -> tuple[DeviceFigures, Reference] | None:
    """Return the device's measured figures and the peaks that fractions are of; None without a product or a copy.

    Fractions are of the datasheet's peaks where a GPU has a specification: those are what MFU is a share of. A
    CPU is known by what it was measured to do.
    """
    cache = float(hello.get("provenance", {}).get("cache_bytes", 0) or 0)
    peaks, bandwidth = measured_peaks(rows, burst=True), measured_bandwidth(rows, cache)
    if not peaks or bandwidth is None:
        return None
    spec = specification(device) if hello["kind"] == "gpu" else None
    flops_per_s: dict[Precision, float] = {precision: rate for precision, (rate, _) in peaks.items()}
    bytes_per_s = bandwidth[0]
    if spec is not None:
        for precision in spec.precisions:
            flops_per_s[cast("Precision", precision)] = spec.peak_flops_per_s(precision).value
        bytes_per_s = spec.memory_bandwidth_bytes_per_s.value

    def figure(value: float, unit: str, source: str) -> dict[str, Any]:
        return {"value": written(value, unit), "evidence": "measured", "source": source, "date": date}

    launch = launch_row(rows)
    memory = float(hello.get("memory_bytes", 0))
    sustained = measured_peaks(rows, burst=False)
    figures = DeviceFigures.model_validate(
        {
            "kind": hello["kind"], "driver_name": hello["name"],
            "fractions_of": "datasheet" if spec is not None else "measured",
            "peak": {p: figure(rate, "FLOP/s", f"{what}, five fastest samples") for p, (rate, what) in peaks.items()},
            "sustained": {p: figure(rate, "FLOP/s", f"{what}, median") for p, (rate, what) in sustained.items()},
            "memory_bandwidth": figure(bandwidth[0], "B/s", f"{bandwidth[1]}, five fastest samples"),
            "memory": figure(memory, "B", "the operating system or driver") if memory else None,
            "kernel_launch": figure(launch.summary.median_s, "s", describe(launch)) if launch else None,
        }
    )  # fmt: skip
    return figures, Reference(flops_per_s, bytes_per_s)


def launch_row(rows: Sequence[Row]) -> Row | None:
    """Return the fastest way to launch an operator that does nothing, or None."""
    found = [row for row in rows if row.case.bench == "launch"]
    return min(found, key=lambda row: row.summary.median_s, default=None)


def host_figures(rows: Sequence[Row], date: str) -> dict[str, Any]:
    """Return the host's times: to dispatch an operator, to replay one from a graph (benchmark launch), its pace."""
    readings = [s for row in rows for run in row.runs if (s := reading_s(run.notes)) is not None]
    reference = reference_s(readings)
    paced = {
        "value": written(reference or 0.0, "s"), "evidence": "measured", "date": date,
        "source": f"a decoder layer between samples, the fastest twentieth of {len(readings)}",
    }  # fmt: skip
    return ({} if reference is None else {SPACER: paced}) | {
        f"launch_{row.case.op}": {
            "value": written(row.summary.median_s, "s"), "evidence": "measured", "source": describe(row), "date": date
        }
        for row in rows if row.case.bench == "launch"
    }  # fmt: skip


def power_figures(rows: Sequence[Row], date: str) -> dict[str, Any]:
    """Return the median draw while each benchmark ran, where the device tells it."""
    watts: dict[str, list[float]] = {}
    for row in rows:
        for run in row.runs:
            if "power_w" in run.notes and run.notes["power_w"] > 0:
                watts.setdefault(row.case.bench, []).append(run.notes["power_w"])
    return {
        bench: {
            "value": written(float(np.median(each)), "W"), "evidence": "measured",
            "source": f"median over {len(each)} cases", "date": date,
        }
        for bench, each in watts.items()
    }  # fmt: skip
