"""Figures and findings as people say them; the console and the HTML page share every word."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clustersim.hardware.figure import Evidence
from clustersim.results.result import Result
from clustersim.results.served import limits_of
from clustersim.results.tasks import task_limits
from clustersim.scenario.plan import DeploymentPlan, deployments_of
from clustersim.scenario.schema import Scenario
from clustersim.units import DAY_S, HOUR_S, MILLI, duration

UNBOUNDED = "unbounded"
UNKNOWN = "n/a"
#: Latencies by key, in the order in which a request meets them.
LATENCIES: Mapping[str, str] = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "ttfo": "time to first token of the answer",
    "e2el": "end-to-end latency",
}
#: Evidence, best first, with what the word means.
EVIDENCE: Mapping[Evidence, str] = {
    "measured": "timed on the device itself",
    "fitted": "a law fitted on measurements of the device",
    "datasheet": "the vendor's figure",
    "published": "a figure somebody published",
    "assumed": "a judgement; no public source confirmed",
}
#: Parts of a token's time in the order in which they are drawn.
PARTS = ("compute", "memory", "network", "launch", "host", "queue", "frontend")
#: No GDDR or LPDDR device reaches the first bandwidth, and no HBM device the second (those have SRAM).
_HBM_BYTES_PER_S = (1.9e12, 40e12)


def clean(text: str) -> str:
    """Return text from a scenario without what would move a terminal's cursor or break its line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def kind(part: Any) -> str:
    """Return the kind of a part in words: "best of n"."""
    return str(part.kind).replace("_", " ")


def latency(metrics: Mapping[str, Any], name: str, stat: str) -> str:
    """Return a latency with its unit; "unbounded" where the queue grew without end, "n/a" where nothing finished."""
    value = metrics[f"{stat}_{name}_ms"]
    if value is None:
        return UNBOUNDED if name in metrics["unbounded"] and metrics["completed"] else UNKNOWN
    return duration(value * MILLI)


def span(seconds: float) -> str:
    """Return a length of time that somebody chose, in whole units where it has them: "1 h", "10 min", "90 s"."""
    for unit, scale in (("d", DAY_S), ("h", HOUR_S), ("min", 60.0)):
        if seconds >= scale and seconds % scale == 0:
            return f"{seconds / scale:g} {unit}"
    return duration(seconds)


def usd(value: float | None) -> str:
    """Return dollars: "$2.34", "$1,250", "$0.0046"."""
    if value is None:
        return UNKNOWN
    if value >= 100 or value == 0:
        return f"${value:,.0f}"
    return f"${value:.2f}" if value >= 0.1 else f"${value:.2g}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits at least, thousands grouped, never in exponents above 1e-4."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def percent(share: float) -> str:
    """Return a share as a whole percentage, "<1 %" for what would round to nothing."""
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def availability(share: float) -> str:
    """Return a share near one with as many nines as it has: "99.95 %", "99.9992 %"; "100 %" for one alone."""
    short = (1 - share) * 100
    digits = 0 if short <= 0 else max(0, -math.floor(math.log10(short)))
    return f"{math.floor(share * 100 * 10**digits + 1e-6) / 10**digits:.{digits}f} %"


def count(value: float) -> str:
    """Return a large count: "812", "57,612", "88.1 M", "1.2 G"."""
    for scale, unit in ((1e9, "G"), (1e6, "M")):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:,.0f}"


def listed(items: Sequence[str]) -> str:
    """Return items as a phrase: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def carbon(gco2e: float, requests: float) -> str:
    """Return grams of CO2 equivalent for so many requests as those for a thousand; "n/a" for no request."""
    if not requests:
        return UNKNOWN
    grams = gco2e / requests * 1000
    return f"{number(grams / 1000)} kgCO2e" if grams >= 1000 else f"{number(grams)} gCO2e"


def memory_word(plan: DeploymentPlan) -> str:
    """Return "HBM" where an accelerator's memory can be nothing else, else "memory"."""
    device = plan.cluster.node.accelerator
    low, high = _HBM_BYTES_PER_S
    stacked = low <= device.memory_bandwidth_bytes_per_s.value < high
    return "HBM" if stacked and device.kind in ("gpu", "tpu", "asic") else "memory"


def part_name(part: str, plan: DeploymentPlan) -> str:
    """Return the name of a part of a token's time."""
    return memory_word(plan) if part == "memory" else part


def promises(scenario: Scenario, deployment: int) -> list[dict[str, float]]:
    """Return the different promises about requests made to tenants of a deployment: limits in seconds by latency.

    What a workload of tasks is promised of answers (TTFO, E2EL) is about tasks; see `report.tasks`.
    """
    found: list[dict[str, float]] = []
    for index, workload in enumerate(scenario.workloads):
        if not _calls(scenario, index, deployment):
            continue
        for tenant in range(len(workload.all_tenants)):
            limits = limits_of(workload.slo_of(tenant))
            if workload.tasks is not None:
                of_tasks = task_limits(limits)
                limits = {name: limit for name, limit in limits.items() if name not in of_tasks}
            if limits and limits not in found:
                found.append(limits)
    return found


def slo(limits: Mapping[str, float]) -> str:
    """Return a promise in words: "TTFT < 2 s, TPOT < 50 ms"."""
    return ", ".join(f"{name.upper()} < {span(limit)}" for name, limit in limits.items())


def slos(scenario: Scenario, deployment: int) -> str:
    """Return what a deployment's requests were promised, in words; "" for nothing."""
    found = promises(scenario, deployment)
    return slo(found[0]) if len(found) == 1 else "each tenant's SLO" if found else ""


def goodput(result: Result, plan: DeploymentPlan, metrics: Mapping[str, Any]) -> str:
    """Return the requests a second that kept their promise, of those that arrived.

    What is promised of a request is kept or broken where it is decoded.
    """
    if result.served[plan.index].prefills:
        return f"{number(metrics['request_throughput'])} req/s prefilled"
    if metrics["request_goodput"] is None:
        why = "" if serves_tasks(result.scenario, plan.index) else " (no SLO given)"
        return f"{number(metrics['request_throughput'])} req/s finished{why}"
    share = metrics["goodput_frac"]
    kept = "" if share is None else f" ({share * 100:.1f} %)"
    of = f"{number(metrics['request_goodput'])} of {number(arrivals_per_s(result, plan))} req/s{kept}"
    return f"goodput {of} within {slos(result.scenario, plan.index)}"


def serves_tasks(scenario: Scenario, deployment: int) -> bool:
    """Whether requests of tasks go to a deployment, whose promises are about tasks."""
    return any(
        workload.tasks is not None and _calls(scenario, index, deployment)
        for index, workload in enumerate(scenario.workloads)
    )


def _calls(scenario: Scenario, workload: int, deployment: int) -> bool:
    """Whether requests of a workload go to a deployment, those of its strategy's parts among them."""
    tasks, name = scenario.workloads[workload].tasks, scenario.deployments[deployment].name
    return deployment in deployments_of(scenario, workload) or (
        tasks is not None and name in tasks.strategy.deployments()
    )


def arrivals_per_s(result: Result, plan: DeploymentPlan) -> float:
    """Return the requests a second that arrived in the window: what goodput is a share of."""
    served = result.served[plan.index]
    return float(served.arrived.sum()) / served.length_s


def fleet(scenario: Scenario) -> str:
    """Return the fleet in words: "24 x hgx-h100 in us-iowa"."""
    return ", ".join(
        " + ".join(f"{cluster.count} x {cluster.node.name}" for cluster in each.clusters)
        + f" in {each.site.name}"
        for each in scenario.fleet
    )


def layout(plan: DeploymentPlan) -> str:
    """Return how a deployment lies on its accelerators: "6 replicas of 32 h100-sxm (ep 32, attention_dp 32)"."""
    parallelism = plan.deployment.parallelism
    chosen = parallelism.model_dump(exclude_defaults=True).items()
    ways = ", ".join(name if value is True else f"{name} {value}" for name, value in chosen)
    scaler = plan.deployment.autoscaler
    replicas = plan.max_replicas
    many = f"{replicas}" if scaler is None else f"{scaler.min_replicas} to {replicas}"
    each = f"{parallelism.num_accelerators} {plan.cluster.node.accelerator.name}"
    return f"{many} replica{'s' if replicas > 1 else ''} of {each}" + (f" ({ways})" if ways else "")


def shares(values: Mapping[str, float], least: float = 0.005) -> list[tuple[str, float]]:
    """Return the shares of at least `least`, largest first."""
    return sorted(
        ((name, share) for name, share in values.items() if share >= least), key=lambda item: -item[1]
    )


def error_interval(metrics: Mapping[str, Any]) -> str:
    """Return the 80 % interval of the median TPOT; "" where no token was timed."""
    limits = metrics.get("p50_tpot_ms_80")
    return "" if limits is None else " to ".join(duration(max(0.0, limit) * MILLI) for limit in limits)


def published(result: Result) -> Iterator[str]:
    """Yield each published figure of the system beside what the run gave, and the error."""
    for row in result.metrics.get("published", []):
        low, high = row["published_low"], row["published_high"]
        said = _figure(low) if low == high else f"{_figure(low)} to {_figure(high)}"
        if row["found"] is None:
            yield f"{row['name']}: {said} published, without a value here."
        else:
            off = f"{row['error_frac'] * 100:+.1f} %" if row["error_frac"] else "within it"
            yield f"{row['name']}: {_figure(row['found'])} here, {said} published: {off}."


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
