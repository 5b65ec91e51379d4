"""How each tenant of each workload fared."""

from __future__ import annotations

from typing import Any

import numpy as np

from clustersim.metrics import latency_stats
from clustersim.results.served import Served, good
from clustersim.scenario.plan import deployment_of
from clustersim.scenario.schema import Scenario


def by_tenant(scenario: Scenario, served: list[Served]) -> dict[str, dict[str, Any]]:
    """Return requests, goodput and latencies of every tenant, named "workload.tenant"; none for a lone one."""
    found: dict[str, dict[str, Any]] = {}
    for index, workload in enumerate(scenario.workloads):
        view = served[deployment_of(scenario, index)]
        kept = good(view, scenario.workloads)
        rows = view.requests
        for number, tenant in enumerate(workload.all_tenants):
            mine = (rows["workload"] == index) & (rows["tenant"] == number)
            came, done = mine & view.arrived, mine & view.measured
            promised = workload.slo_of(number) is not None and kept is not None and came.any()
            values: dict[str, Any] = {
                "slo_class": tenant.slo_class,
                "num_requests": int(mine.sum()),
                "completed": int(done.sum()),
                "goodput_frac": float(kept[came].mean()) if promised and kept is not None else None,
            }
            for name in ("ttft", "ttfo", "tpot", "e2el"):
                latency = view.latencies[name][done]
                stats = latency_stats(name, latency[np.isfinite(latency)])
                values |= {key: value for key, value in stats.items() if key.startswith(("p50", "p99"))}
            found[f"{workload.name}.{tenant.name}"] = values
    return found if len(found) > 1 else {}
