"""Names and figures of a comparison as people say them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from clustersim.report import words
from clustersim.study.compare.statistics import MANY, Difference
from clustersim.units import MILLI, duration

#: Metric -> what it is called, and the unit after its figure.
_NAMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "usd_per_output_mtok": ("Cost of a million output tokens", ""),
        "usd_per_request": ("Cost of a request", ""),
        "usd": ("Cost of the window", ""),
        "joules_per_output_token": ("Energy of an output token", "J"),
        "gco2e_per_output_mtok": ("Carbon of a million output tokens", "gCO2e"),
        "goodput_frac": ("Share within SLO", ""),
        "request_goodput": ("Requests within SLO", "req/s"),
        "request_throughput": ("Requests finished", "req/s"),
        "capacity_requests_per_s": ("Capacity", "req/s"),
        "output_throughput": ("Output", "tok/s"),
        "tokens_per_s_per_gpu": ("Output of an accelerator", "tok/s"),
        "tokens_per_s_per_user": ("Output for a user", "tok/s"),
        "utilisation": ("Utilisation", ""),
        "mean_power_w": ("Mean power", "W"),
        "mean_kv_frac": ("KV cache in use", ""),
        "mfu": ("MFU", ""),
        "mbu": ("MBU", ""),
        "accuracy": ("Tasks answered rightly", ""),
        "usd_per_task": ("Cost of a task", ""),
        "usd_per_solved": ("Cost of a task solved", ""),
        "joules_per_solved": ("Energy of a task solved", "J"),
        "task_goodput_frac": ("Tasks within SLO", ""),
        "prefix_hit_frac": ("Input found in KV cache", ""),
        "shed": ("Requests turned away", ""),
        "shed_frac": ("Share of requests turned away", ""),
        "availability_frac": ("Replicas available", ""),
        "retries": ("Requests tried again", ""),
        "lost_tokens": ("Tokens lost to failures", ""),
        "gpu_hours": ("Accelerators held", "GPU-hours"),
        "cold_starts": ("Cold starts", ""),
        "adapter_loads": ("Adapters loaded", ""),
    }
)
_STATS = ("mean", "median", "std", "p50", "p90", "p95", "p99")
_SHARES = ("utilisation", "mfu", "mbu", "accuracy")


def name(metric: str) -> str:
    """Return what a metric is called: "TTFT p99", "Cost of a million output tokens"; its key where it has no name."""
    prefix, _, last = metric.rpartition(".")
    stat, _, rest = last.partition("_")
    text = _NAMES.get(last, ("", ""))[0]
    if not text and stat in _STATS and last.endswith("_ms"):
        kind = rest.removesuffix("_ms")
        text = f"{kind.removeprefix('task_').upper()}{' of tasks' if kind.startswith('task_') else ''} {stat}"
    where = prefix.removeprefix("deployments.").removeprefix("tasks.")
    return f"{where}: {text or last}" if where else text or last


def figure(metric: str, value: float | None) -> str:
    """Return a metric's value with its unit; "unbounded" or "n/a" is for the caller to say where there is none."""
    if value is None:
        return words.UNKNOWN
    last = metric.rpartition(".")[2]
    if last.startswith("usd"):
        return words.usd(value) if value >= 0 else f"-{words.usd(-value)}"
    if last == "availability_frac" and 0 <= value <= 1:
        return words.availability(value)
    if last.endswith("_ms"):
        return duration(value * MILLI) if value >= 0 else f"-{duration(-value * MILLI)}"
    if last.endswith("_frac") or last in _SHARES:
        return f"{value * 100:.3g} %"
    return f"{words.number(value)} {_NAMES.get(last, ('', ''))[1]}".strip()


def missing(metric: str, overloaded: bool) -> str:
    """Return what stands for a value that is not there."""
    last = metric.rpartition(".")[2]
    waits = any(f"_{kind}_ms" in last for kind in ("ttft", "ttfo", "e2el", "queue"))
    return words.UNBOUNDED if overloaded and waits else words.UNKNOWN


def interval(metric: str, low: float | None, high: float | None) -> str:
    """Return an interval: "31.0 ms to 38.1 ms"; "" where there is none."""
    return "" if low is None or high is None else f"{figure(metric, low)} to {figure(metric, high)}"


def change(ratio: float) -> str:
    """Return a ratio as a change: "34 % less", "0.5 % more", "3.2 times as much"."""
    if ratio >= 2:
        return f"{ratio:.3g} times as much"
    return f"{_percent(abs(ratio - 1))} {'less' if ratio < 1 else 'more'}"


def changes(low: float, high: float) -> str:
    """Return an interval of ratios as changes: "31 to 37 % less", "1.2 % less to 0.8 % more"."""
    if high < 1:
        return f"{_bare(1 - high)} to {_percent(1 - low)} less"
    if low > 1 and high < 2:
        return f"{_bare(low - 1)} to {_percent(high - 1)} more"
    if low > 1:
        return f"{low:.3g} to {high:.3g} times as much"
    return f"{_percent(1 - low)} less to {change(high)}"


def signed(ratio: float | None) -> str:
    """Return a ratio as a signed percentage for tables: "-34 %", "+0.5 %"."""
    return words.UNKNOWN if ratio is None else f"{(ratio - 1) * 100:+.3g} %"


def _bare(share: float) -> str:
    return f"{share * 100:.2g}" if share < 0.1 else f"{share * 100:.0f}"


def _percent(share: float) -> str:
    return f"{_bare(share)} %"


def held_against(each: Difference, first: str) -> str:
    """Return a difference as what the other is against `first`: "12 % less (10 to 14 %)", by ratio where it has one.

    A difference is kept as b against a; where `first` is b, its ratio is turned round.
    """
    found = ratios(each, first)
    if found is None:
        return "" if each.mean is None else f"differs by {figure(each.metric, abs(each.mean))}"
    ratio, low, high = found
    return f"{change(ratio)} ({changes(low, high)})"


def ratios(each: Difference, first: str) -> tuple[float, float, float] | None:
    """Return the ratio of the other over `first` with its limits; None where they have none."""
    if not each.ratio or not each.ratio_low or not each.ratio_high or each.ratio_low <= 0:
        return None
    if first == each.a:
        return each.ratio, each.ratio_low, each.ratio_high
    return 1 / each.ratio, 1 / each.ratio_high, 1 / each.ratio_low


def further(each: Difference) -> str:
    """Return how many more replications would tell a pair apart."""
    if each.more_replications is None:
        return ""
    if each.more_replications >= MANY / 2:
        return "no number of replications that can be run would tell them apart"
    few = f"{each.more_replications:,} more replication{'s' if each.more_replications > 1 else ''}"
    return f"about {few} would tell them apart with a chance of 80 %, were the difference as it seems"
