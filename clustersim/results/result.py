"""The result of a run: metrics under vLLM's keys, requests and timeline as frames, and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clustersim.cost.account import Account, account
from clustersim.errors import InputError
from clustersim.records import (
    ROLES,
    STATUS,
    Floats,
    LoadRecords,
    RequestRecords,
    SpanRecords,
    TaskRecords,
    TransferRecords,
)
from clustersim.results import timeline as timelines
from clustersim.results.caching import Stored, cache_metrics, unused_tiers
from clustersim.results.conserved import check_conserved
from clustersim.results.deployment import deployment_metrics, in_clusters, together
from clustersim.results.energy import bill
from clustersim.results.held import held_by
from clustersim.results.prefilled import transfer_metrics
from clustersim.results.published import against
from clustersim.results.regime import RULE, load_of
from clustersim.results.served import Served, serve
from clustersim.results.tasks import deployments_used, task_frame, task_metrics
from clustersim.results.tenants import by_tenant, in_order, tenant_names
from clustersim.results.unused import without_effect
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.units import duration
from clustersim.versions import version_of


@dataclass(frozen=True)
class Result:
    """A run's result. `metrics` is what result.json holds; frames have a row a request, a bin of time, a task."""

    scenario: Scenario
    seed: int
    metrics: dict[str, Any]
    requests: pd.DataFrame
    timeline: pd.DataFrame
    plans: list[DeploymentPlan]
    served: list[Served]
    accounts: list[Account]
    tasks: pd.DataFrame
    """Empty where no workload has tasks."""

    def __getitem__(self, key: str) -> Any:
        """Return a metric of the whole run: result["p99_ttft_ms"]."""
        return self.metrics[key]


def summarise(
    scenario: Scenario,
    seed: int,
    plans: list[DeploymentPlan],
    records: RequestRecords,
    tasks: TaskRecords,
    runs: Mapping[str, Floats],
    first_replica: list[int],
    cpu_s: float,
    transfers: TransferRecords | None = None,
    spans: SpanRecords | None = None,
    kv_loads: LoadRecords | None = None,
    kv_stored: Mapping[int, Stored] | None = None,
) -> Result:
    """Return the result that follows from the records of a run."""
    check_conserved(records, runs, plans, first_replica)
    window = _window(scenario, records)
    served = [serve(records, runs, plans, plan, first_replica[plan.index], window) for plan in plans]
    accounts = [account(plan.cost, view.runs) for plan, view in zip(plans, served, strict=True)]
    held = [held_by(plan, first_replica[plan.index], spans, window) for plan in plans]
    bills = [bill(*each) for each in zip(plans, served, accounts, held, strict=True)]
    loads = [
        load_of(plan, view, here, _is_open(scenario, plan))
        for plan, view, here in zip(plans, served, held, strict=True)
    ]
    overloaded = [
        plan.deployment.name for plan, load in zip(plans, loads, strict=True) if load.regime == "OVERLOADED"
    ]
    frame_of_tasks = task_frame(scenario, tasks, records, plans, served, bills)
    every = [
        deployment_metrics(scenario, *each)
        for each in zip(plans, served, accounts, bills, loads, held, strict=True)
    ]
    stored = [(kv_stored or {}).get(plan.index, {}) for plan in plans]
    for plan, view, values, sizes in zip(plans, served, every, stored, strict=True):
        values.update(cache_metrics(plan, view, records, kv_loads or LoadRecords(1), sizes))
    if transfers is not None and transfers.num:
        for plan, values in zip(plans, every, strict=True):
            moved = transfer_metrics(transfers, first_replica[plan.index], plan.max_replicas, window)
            values.update(moved)
    metrics: dict[str, Any] = {
        "scenario": scenario.name,
        "seed": seed,
        "clustersim_version": version_of("clustersim"),
        "window_s": list(window),
        "warm_up_rule": scenario.warm_up_rule.model_dump(mode="json"),
        "regime_rule": RULE,
        **(every[0] if len(every) == 1 else together(scenario, plans, every, served)),
        **task_metrics(scenario, plans, frame_of_tasks, window, overloaded),
        "tenants": by_tenant(scenario, served),
        "deployments": {plan.deployment.name: values for plan, values in zip(plans, every, strict=True)},
        "settings_without_effect": without_effect(plans, served, scenario) + unused_tiers(plans, stored),
        "idle_accelerators": _idle(scenario, plans),
        "cpu_s": cpu_s,
    }
    if scenario.published:
        metrics["published"] = against(scenario.published, metrics)
    end = float(np.nanmax(np.append(records.column("finish_s"), window[1])))
    at = timelines.edges(end, scenario.outputs.timeline_bin_s)
    bins = [timelines.timeline(*each, at) for each in zip(plans, served, accounts, bills, held, strict=True)]
    frame = pd.concat(bins, ignore_index=True)
    requests = _requests(scenario, records)
    return Result(scenario, seed, metrics, requests, frame, plans, served, accounts, frame_of_tasks)


def _window(scenario: Scenario, records: RequestRecords) -> tuple[float, float]:
    finish, arrival = records.column("finish_s"), records.column("arrival_s")
    last = float(np.nanmax(finish)) if np.isfinite(finish).any() else 0.0
    horizon = scenario.horizon_s or last
    end = min(horizon, last) if last > 0 else horizon
    latency = np.asarray(finish - arrival, dtype=np.float64)
    start = scenario.warm_up_rule.end_s(end, np.asarray(finish, dtype=np.float64), latency)
    if start >= end > 0:
        raise InputError(
            f"warm_up leaves nothing to measure: it ends at {duration(start)}, the run at {duration(end)}; "
            "use a shorter one, a longer horizon, or warm_up: none"
        )
    return (start, end)


def _is_open(scenario: Scenario, plan: DeploymentPlan) -> bool:
    """Whether a deployment's requests arrive over time whatever it does."""
    mine = [
        w
        for w in scenario.workloads
        if plan.deployment.name in deployments_used(w, scenario.deployments[0].name)
    ]
    return any(
        w.closed_loop is None and getattr(w.shared_arrivals, "kind", "") != "all_at_once" for w in mine
    )


def _idle(scenario: Scenario, plans: list[DeploymentPlan]) -> int:
    """Return the accelerators that no deployment may have."""
    total = sum(cluster.num_accelerators for fleet in scenario.fleet for cluster in fleet.clusters)
    most = [plan.max_replicas * plan.deployment.parallelism.num_accelerators for plan in plans]
    return total - in_clusters(plans, most)


def _requests(scenario: Scenario, records: RequestRecords) -> pd.DataFrame:
    """Return one row a request that was issued, in order of arrival."""
    rows = in_order(records)
    columns: dict[str, Any] = {name: records.column(name)[rows] for name in (*records.FLOATS, *records.INTS)}
    words = {
        "deployment": [deployment.name for deployment in scenario.deployments],
        "workload": [workload.name for workload in scenario.workloads], "status": STATUS, "role": ROLES,
    }  # fmt: skip
    columns["tenant"] = tenant_names(scenario, columns["workload"], columns["tenant"])
    if (columns["task"] < 0).all():
        del columns["task"], columns["role"], words["role"]
    for column, names in words.items():
        columns[column] = pd.Categorical.from_codes(columns[column], pd.Index(names))
    return pd.DataFrame(columns, copy=False)
