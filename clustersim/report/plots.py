"""The plots of a deployment as plain data: traces, axes and marks; colours by name, which the page resolves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from clustersim.records import Floats
from clustersim.report import pools, words
from clustersim.results.result import Result
from clustersim.scenario.plan import DeploymentPlan
from clustersim.units import DAY_S, GIGA, HOUR_S, duration

MAX_POINTS = 600
#: Ticks of a logarithmic time axis, in seconds.
_TICKS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36000.0, 360000.0)
Plot = dict[str, Any]


def plots(result: Result, plan: DeploymentPlan) -> list[Plot]:
    """Return the plots of a deployment in the order in which they are shown."""
    return [_latencies(result, plan), *_timelines(result, plan)]


def _latencies(result: Result, plan: DeploymentPlan) -> Plot:
    served = result.served[plan.index]
    metrics = result.metrics["deployments"][plan.deployment.name]
    series = {
        name: served.in_window(name)
        for name in pools.latencies(result, plan)
        if name != "ttfo" or metrics["total_thinking"]  # else the same as TTFT
    }
    promised = {item for limits in words.promises(result.scenario, plan.index) for item in limits.items()}
    note = "One curve a latency; a dashed line is its SLO."
    if metrics["unbounded"]:
        note += " Overloaded: all but TPOT move right for as long as the run lasts."
    return latencies(series, sorted((limit, name) for name, limit in promised), note, "requests")


def latencies(
    series: Mapping[str, Floats], limits: Sequence[tuple[float, str]], note: str, served: str
) -> Plot:
    """Return the distributions of latencies in seconds, (n,) each, by name; `limits` are (seconds, name) promised.

    served: what has these latencies, "requests" or "tasks".
    """
    traces = [
        quantile_curve(values, name.upper(), name, duration, f"{served} are faster")
        for name, values in series.items()
        if len(values)
    ]
    limits = [(limit, name) for limit, name in limits if name in words.LATENCIES]
    ends = [trace["x"][end] for trace in traces for end in (0, -1)] + [limit for limit, _ in limits]
    low, high = (min(ends) / 1.5, max(ends) * 1.5) if ends else (1e-3, 1.0)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    return {
        "title": "Latency", "note": note, "wide": True, "traces": traces, "legend": True,
        "marks": [{"x": limit, "color": name, "text": f"{name.upper()} SLO"} for limit, name in limits],
        "x": log_axis("latency (logarithmic)", low, high, ticks, words.span),
        "y": {"title": f"{served} served faster (%)", "range": [0, 101]},
    }  # fmt: skip


def log_axis(
    title: str, low: float, high: float, ticks: Sequence[float], say: Callable[[float], str]
) -> Plot:
    """Return a logarithmic axis from `low` to `high` with labels at `ticks`."""
    ends = [float(np.log10(low)), float(np.log10(high))]
    return {
        "title": title,
        "log": True,
        "ticks": list(ticks),
        "labels": [say(t) for t in ticks],
        "range": ends,
    }


def quantile_curve(values: Floats, name: str, color: str, say: Callable[[float], str], than: str) -> Plot:
    """Return the share of values (n,) at or below each value, as a line; `than` ends its hover text."""
    share = _quantiles(len(values))
    at = np.maximum(np.quantile(values, share), 1e-6)
    return {
        "x": at.tolist(), "y": (share * 100).tolist(), "name": name, "color": color, "text": [say(each) for each in at],
        "hover": f"{name} %{{text}}<br>%{{y:.1f}} % of {than}",
    }  # fmt: skip


def _quantiles(size: int) -> Floats:
    """Return shares from 0 to 1, closer together towards the tail."""
    body = np.linspace(0.0, 0.95, 200)
    points = min(150, max(3, size // 20))  # a tail of so many values has no more to show
    tail = 1 - np.geomspace(0.05, max(1e-5, 0.5 / size), points)
    return np.concatenate([body, tail[1:], [1.0]])


def _timelines(result: Result, plan: DeploymentPlan) -> list[Plot]:
    frame = result.timeline[result.timeline["deployment"] == plan.deployment.name]
    time = frame["time_s"].to_numpy()
    scale, unit = _time_unit(float(time[-1]) if len(time) else 0.0)
    start, end = result.metrics["window_s"]
    bands = [[0.0, start / scale]] if start > 0 else []
    if len(time) and time[-1] > end * 1.001:
        bands.append([end / scale, float(time[-1]) / scale])
    x = _thin(time, first=True) / scale

    def column(name: str, factor: float = 1.0) -> list[float]:
        return [float(f"{value:.6g}") for value in _thin(frame[name].to_numpy() * factor)]

    def line(name: str, label: str, color: str, unit: str, factor: float = 1.0) -> Plot:
        return {
            "x": x.tolist(), "y": column(name, factor), "name": label, "color": color,
            "hover": f"{label} %{{y:,.4~g}} {unit}<br>at %{{x:.2f}} {_time_unit(float(time[-1]))[1]}",
        }  # fmt: skip

    def plot(title: str, note: str, axis: str, *traces: Plot, top: float | None = None) -> Plot:
        return {
            "title": title, "note": note, "wide": False, "traces": list(traces), "marks": [], "bands": bands,
            "legend": len(traces) > 1, "x": {"title": f"simulated time ({unit})"},
            "y": {"title": axis, "range": [0, top] if top else None, "zero": True},
        }  # fmt: skip

    replicas = plan.max_replicas
    power, watts = _si_scale(float(frame["power_w"].max()) if len(frame) else 0.0)
    whole = "" if replicas == 1 else f", {replicas} replicas together"
    come = line("arrivals_per_s", "arrivals", "arrivals", "req/s")
    arrivals = plot("Arrivals", "Requests that came in.", "requests / s", come)
    on = frame["replicas_on"].to_numpy() if "replicas_on" in frame else np.zeros(0)
    scaled = []
    if len(on) and np.isfinite(on).all() and on.min() < on.max():
        there = line("replicas_on", "replicas", "replicas", "on")
        arrivals["fleet"] = True
        scaled = [{**plot("Replicas", "Replicas that are on.", "replicas", there), "fleet": True}]
    wait = line("queue", "queue", "queue", "waiting")
    return [
        arrivals,
        *scaled,
        plot("Queue", f"Requests that wait for a place in a batch{whole}.", "requests", wait),
        plot("Batch", f"Sequences that decode{whole}.", "sequences", line("batch", "batch", "batch", "sequences")),
        plot("KV cache", "Share of the KV blocks in use.", "% of blocks",
             line("kv_frac", "KV use", "kv", "%", 100.0), top=101 if (frame["kv_frac"] > 0.5).any() else None),
        plot("Output", "Tokens generated.", "tokens / s", line("output_tokens_per_s", "output", "output", "tok/s")),
        plot("Power", "Accelerators with their share of hosts and ports, idle time included; without cooling.",
             f"{watts}W", line("power_w", "power", "power", f"{watts}W", 1 / power)),
    ]  # fmt: skip


def _time_unit(seconds: float) -> tuple[float, str]:
    for limit, scale, unit in ((180.0, 1.0, "s"), (3 * HOUR_S, 60.0, "min"), (3 * DAY_S, HOUR_S, "h")):
        if seconds < limit:
            return scale, unit
    return DAY_S, "days"


def _si_scale(largest: float) -> tuple[float, str]:
    return next(((s, p) for s, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= s), (1.0, ""))


def _thin(values: Floats, first: bool = False) -> Floats:
    """Return at most MAX_POINTS means of equal groups of neighbours (the first of each where asked)."""
    group = -(-len(values) // MAX_POINTS)
    if group <= 1:
        return values
    starts = np.arange(0, len(values), group)
    sizes = np.diff(np.append(starts, len(values)))
    return values[starts] if first else np.asarray(np.add.reduceat(values, starts) / sizes)


def bars(result: Result, plan: DeploymentPlan) -> list[Mapping[str, Any]]:
    """Return the stacked bars of a deployment: a token's time, the memory of an accelerator, the evidence."""
    metrics = result.metrics["deployments"][plan.deployment.name]
    parts, evidence = metrics["time_by_part"], metrics["time_by_evidence"]
    rows = plan.memory.rows()
    kinds = {kind: what for kind, what in words.EVIDENCE.items() if evidence.get(kind)}
    capacity = plan.memory.capacity_bytes
    found = [
        {
            "title": f"Where a {'prompt' if pools.prefills(result, plan) else 'token'}'s time goes",
            "note": "Time of requests in steps, by what bound each operator, and outside them.",
            "parts": [
                _part(words.part_name(part, plan), part, parts[part], words.percent(parts[part]))
                for part in words.PARTS
                if parts.get(part)
            ],
        },
        {
            "title": "Memory of one accelerator",
            "note": f"{capacity / GIGA:,.4g} GB of {plan.cluster.node.accelerator.name}, the busiest rank.",
            "parts": [
                _part(what, f"memory-{index}", size / capacity, f"{size / GIGA:,.3g} GB")
                for index, (what, size) in enumerate(rows)
                if size > 0
            ],
        },
        {
            "title": "What the step time rests on",
            "note": "; ".join(f"{kind}: {what}" for kind, what in kinds.items()) + ".",
            "parts": [_part(kind, kind, evidence[kind], words.percent(evidence[kind])) for kind in kinds],
        },
    ]
    return [bar for bar in found if bar["parts"]]


def _part(name: str, color: str, share: float, text: str) -> dict[str, Any]:
    return {"name": name, "color": color, "share": share, "text": text}


def operators(metrics: Mapping[str, Any], most: int = 14) -> list[dict[str, Any]]:
    """Return the operators that take most of a step, with the rest as one row; `width` is relative to the longest."""
    shares = list(metrics["time_by_operator"].items())
    top = [{"name": name.replace("_", " "), "share": share} for name, share in shares[:most]]
    rest = sum(share for _, share in shares[most:])
    if rest > 0:
        top.append({"name": f"{len(shares) - most} others", "share": rest})
    longest = max((row["share"] for row in top), default=1.0)
    return [{**row, "width": row["share"] / longest, "text": words.percent(row["share"])} for row in top]
