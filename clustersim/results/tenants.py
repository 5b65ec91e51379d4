"""Rows by tenant: in which order and under which names they are shown, and how each tenant fared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from clustersim.metrics import latency_stats
from clustersim.records import SHED, Columns, Ints
from clustersim.results.admission import sheds
from clustersim.results.served import Served, good
from clustersim.scenario.plan import deployments_of
from clustersim.scenario.schema import Scenario


def in_order(records: Columns) -> slice | Ints:
    """Return the rows that were issued in order of arrival: all of them as they are where they already are so."""
    arrival = records.column("arrival_s")
    if np.isfinite(arrival).all() and (np.diff(arrival) >= 0).all():
        return slice(None)
    issued = np.flatnonzero(np.isfinite(arrival))
    return issued[np.argsort(arrival[issued], kind="stable")]


def tenant_names(scenario: Scenario, workload: Ints, tenant: Ints) -> pd.Categorical[str]:
    """Return the names of tenants, given as indices (n,) with those of their workloads."""
    names = [[tenant.name for tenant in workload.all_tenants] for workload in scenario.workloads]
    first = np.cumsum([0, *map(len, names)])
    number = first[workload] + tenant
    flat = [name for each in names for name in each]
    shown = sorted({flat[index] for index in np.flatnonzero(np.bincount(number, minlength=len(flat)))})
    codes = np.array([shown.index(name) if name in shown else -1 for name in flat])
    return pd.Categorical.from_codes(codes[number], pd.Index(shown))


def by_tenant(scenario: Scenario, served: list[Served]) -> dict[str, dict[str, Any]]:
    """Return requests, goodput and latencies of every tenant, named "workload.tenant"; none for a lone one."""
    found: dict[str, dict[str, Any]] = {}
    for index, workload in enumerate(scenario.workloads):
        views = [served[number] for number in deployments_of(scenario, index)]
        kept = [good(view, scenario.workloads) for view in views]
        for number, tenant in enumerate(workload.all_tenants):
            mine = [
                (view.requests["workload"] == index) & (view.requests["tenant"] == number) for view in views
            ]
            came = [rows & view.arrived for rows, view in zip(mine, views, strict=True)]
            done = [rows & view.measured for rows, view in zip(mine, views, strict=True)]
            within = [
                good_rows[rows] for good_rows, rows in zip(kept, came, strict=True) if good_rows is not None
            ]
            flat = np.concatenate(within) if within else np.empty(0)
            promised = workload.slo_of(number) is not None and len(flat)
            values: dict[str, Any] = {
                "slo_class": tenant.slo_class,
                "num_requests": int(sum(rows.sum() for rows in mine)),
                "completed": int(sum(rows.sum() for rows in done)),
                "goodput_frac": float(flat.mean()) if promised else None,
            }
            if any(sheds(scenario.deployments[each]) for each in deployments_of(scenario, index)):
                shed = [view.requests["status"] == SHED for view in views]
                values["shed"] = int(sum((a & b).sum() for a, b in zip(mine, shed, strict=True)))
                share = np.concatenate([b[a] for a, b in zip(came, shed, strict=True)])
                values["shed_frac"] = float(share.mean()) if len(share) else None
            for name in ("ttft", "ttfo", "tpot", "e2el"):
                latency = np.concatenate(
                    [view.latencies[name][rows] for view, rows in zip(views, done, strict=True)]
                )
                stats = latency_stats(name, latency[np.isfinite(latency)])
                values |= {key: value for key, value in stats.items() if key.startswith(("p50", "p99"))}
            found[f"{workload.name}.{tenant.name}"] = values
    return found if len(found) > 1 else {}
