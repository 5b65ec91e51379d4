"""How each tenant of a deployment fared."""

from __future__ import annotations

import numpy as np

from clustersim.records import SHED, Floats
from clustersim.report import words
from clustersim.results.result import Result
from clustersim.results.served import good
from clustersim.scenario.plan import DeploymentPlan
from clustersim.units import duration

COLUMNS = (
    "Tenant",
    "Requests",
    "Turned away",
    "Goodput",
    "TTFT p50",
    "TTFT p99",
    "TPOT p50",
    "TPOT p99",
    "E2EL p50",
)


def tenants(result: Result, plan: DeploymentPlan) -> list[tuple[str, ...]]:
    """Return a row of COLUMNS for each tenant, most requests first; none where there is but one tenant."""
    served = result.served[plan.index]
    kept = good(served, result.scenario.workloads)
    view = served.requests
    unbounded = result.metrics["deployments"][plan.deployment.name]["unbounded"]
    rows: list[tuple[int, tuple[str, ...]]] = []

    def of(name: str, done: Floats, q: float) -> str:
        values = served.latencies[name][done]
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return words.UNKNOWN
        return words.UNBOUNDED if name in unbounded and q > 50 else duration(float(np.percentile(values, q)))

    for index, workload in enumerate(result.scenario.workloads):
        for number, tenant in enumerate(workload.all_tenants):
            mine = (view["workload"] == index) & (view["tenant"] == number)
            if not mine.any():
                continue
            done = mine & served.measured
            came = mine & served.arrived
            promised = workload.slo_of(number) is not None and came.any()
            goodput = f"{kept[came].mean() * 100:.1f} %" if promised and kept is not None else words.UNKNOWN
            size = int(mine.sum())
            shed = int((view["status"][mine] == SHED).sum())
            away = f"{shed:,} ({words.percent(shed / size)})" if shed else "0"
            numbers = [of(name, done, q) for name in ("ttft", "tpot") for q in (50, 99)]
            rows.append((size, (tenant.name, f"{size:,}", away, goodput, *numbers, of("e2el", done, 50))))
    if len(rows) < 2:
        return []
    return [row for _, row in sorted(rows, key=lambda row: (-row[0], row[1]))]
