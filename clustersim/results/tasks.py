"""Tasks: how many were answered, how many rightly, when, and what each took in tokens, joules and dollars."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from clustersim.metrics import latency_stats
from clustersim.records import (
    ANSWERED,
    CHECK,
    REJECTED,
    TASK_STATUS,
    USEFUL,
    Floats,
    RequestRecords,
    TaskRecords,
)
from clustersim.results.attribution import busy_seconds
from clustersim.results.energy import Bill
from clustersim.results.prefilled import decoded_by
from clustersim.results.served import Served, limits_of
from clustersim.results.tenants import tenant_names
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.workload.workload import Workload


def task_frame(
    scenario: Scenario,
    tasks: TaskRecords,
    records: RequestRecords,
    plans: list[DeploymentPlan],
    served: list[Served],
    bills: list[Bill],
) -> pd.DataFrame:
    """Return one row a task that was issued, in order of arrival, with the sums over its requests."""
    if tasks.num == 0:
        return pd.DataFrame()
    frame: pd.DataFrame = pd.DataFrame({name: tasks.column(name) for name in (*tasks.FLOATS, *tasks.INTS)})
    task = np.asarray(records.column("task"))
    of_task = task >= 0
    refused = records.column("status") == REJECTED
    output = np.where(refused, 0, records.column("thinking_tokens") + records.column("answer_tokens"))
    role = records.column("role")

    def total(values: Any, among: Any = True) -> Floats:
        chosen = of_task & among
        weights = np.asarray(values, dtype=np.float64)[chosen]
        return np.asarray(np.bincount(task[chosen], weights, tasks.num), dtype=np.float64)

    frame.insert(0, "task", np.arange(tasks.num))  # as in requests.parquet
    frame["num_requests"] = total(np.ones(records.num)).astype(np.int64)
    for name, among in (
        ("output", True), ("useful", role == USEFUL), ("check", role == CHECK),
        ("wasted", (role != USEFUL) & (role != CHECK)),
    ):  # fmt: skip
        frame[f"{name}_tokens"] = total(output, among).astype(np.int64)
    frame["prompt_tokens"] = total(
        records.column("input_tokens"), np.isfinite(records.column("scheduled_s"))
    ).astype(np.int64)
    frame["cached_tokens"] = total(records.column("cached_tokens")).astype(np.int64)
    joules, usd = _dealt_out(records, plans, served, bills)
    frame["joules"] = total(joules)
    frame["usd"] = np.nan if usd is None else total(usd)
    frame = frame.loc[np.isfinite(frame["arrival_s"])].sort_values(
        "arrival_s", kind="stable", ignore_index=True
    )
    workloads = [workload.name for workload in scenario.workloads]
    frame["tenant"] = tenant_names(scenario, np.asarray(frame["workload"]), np.asarray(frame["tenant"]))
    for column, names in (("workload", workloads), ("status", TASK_STATUS)):
        frame[column] = pd.Categorical.from_codes(np.asarray(frame[column]), pd.Index(names))
    return frame


def _dealt_out(
    records: RequestRecords, plans: list[DeploymentPlan], served: list[Served], bills: list[Bill]
) -> tuple[Floats, Floats | None]:
    """Return joules and dollars (requests,): each deployment's bill by the busy seconds that requests took of it.

    That of one that prefills for others by the prompt tokens that it computed.
    """
    joules, usd = np.zeros(records.num), np.zeros(records.num)
    issued = np.isfinite(records.column("arrival_s"))
    for plan, view, bill in zip(plans, served, bills, strict=True):
        mine = issued & np.isin(records.column("deployment"), decoded_by(plans, plan) or [plan.index])
        busy = float(((view.runs["end_s"] - view.runs["start_s"]) * view.overlap).sum())
        if busy <= 0:
            continue
        share = _of_prompts(view) if view.prefills else busy_seconds(plan, view) / busy
        joules[mine] += share * bill.facility_j
        usd[mine] += share * (np.nan if bill.usd is None else bill.usd)
    return joules, None if any(bill.usd is None for bill in bills) else usd


def _of_prompts(view: Served) -> Floats:
    """Return the prompt tokens that each request had computed over those of the window that is billed (requests,)."""
    rows, runs = view.requests, view.runs
    computed = np.where(np.isfinite(rows["scheduled_s"]), rows["input_tokens"] - rows["cached_tokens"], 0.0)
    in_window = float((runs["prefill_tokens"] * view.overlap).sum()) / max(
        float(runs["prefill_tokens"].sum()), 1.0
    )
    return np.asarray(computed / max(computed.sum() * in_window, 1.0))


def task_metrics(
    scenario: Scenario,
    plans: list[DeploymentPlan],
    frame: pd.DataFrame,
    window_s: tuple[float, float],
    overloaded: Collection[str],
) -> dict[str, Any]:
    """Return the metrics of all tasks together, and those of each workload under "tasks"; nothing without tasks.

    Latencies are None where a deployment that the tasks use is `overloaded`: they have no bound.
    """
    if frame.empty:
        return {}
    every: dict[str, dict[str, Any]] = {}
    drowned = False
    for workload in scenario.workloads:
        if workload.tasks is None:
            continue
        values = _metrics(scenario, frame[frame["workload"] == workload.name], window_s)
        if deployments_used(workload, plans[0].deployment.name) & set(overloaded):
            drowned = True
            values = _without_latencies(values)
        every[workload.name] = {**values, "accuracy_rests_on": _rests_on(workload, plans)}
    whole = _metrics(scenario, frame, window_s)
    return {**(_without_latencies(whole) if drowned else whole), "tasks": every}


def deployments_used(workload: Workload, first: str) -> set[str]:
    """Return the names of the deployments that a workload's requests go to, those of its strategy's parts too.

    `first` is the scenario's first deployment, where a workload goes that names none.
    """
    called = set(workload.tasks.strategy.deployments()) if workload.tasks else set()
    return {*(workload.deployments or (first,)), *called}


def _without_latencies(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if key.endswith(("_task_ttfo_ms", "_task_e2el_ms")) else value
        for key, value in values.items()
    }


def _rests_on(workload: Workload, plans: list[DeploymentPlan]) -> dict[str, dict[str, Any]]:
    """Return, by deployment that answers, the accuracy of plain attempts, its 90 % band, and where it comes from."""
    assert workload.tasks is not None
    own = workload.deployments or (plans[0].deployment.name,)
    answering = {*own, *workload.tasks.strategy.answering()}
    found: dict[str, dict[str, Any]] = {}
    for plan in plans:
        ability = plan.ability(workload) if plan.deployment.name in answering else None
        if ability is not None:
            found[plan.deployment.name] = {
                "accuracy": ability.accuracy,
                "accuracy_90": None if ability.low is None else [ability.low, ability.high],
                "thinking_tokens": ability.thinking_tokens,
                "evidence": ability.evidence,
                "note": ability.note,
            }
    return found


def _metrics(scenario: Scenario, frame: pd.DataFrame, window_s: tuple[float, float]) -> dict[str, Any]:
    """Return the metrics of the tasks that arrive in the window, with all of their requests, after it or not.

    Throughput alone is of those that end in it.
    """
    start, end = window_s
    arrived = frame[(frame["arrival_s"] >= start) & (frame["arrival_s"] <= end)]
    ended = arrived[arrived["finish_s"].notna()]
    answered = ended[ended["status"] == TASK_STATUS[ANSWERED]]
    length = max(end - start, 1e-12)
    in_window = (frame["finish_s"] > start) & (frame["finish_s"] <= end)
    values: dict[str, Any] = {
        "num_tasks": len(frame),
        "tasks_ended": len(ended),
        "tasks_given_up": len(ended) - len(answered),
        "task_throughput": float(in_window.sum() / length),
        "requests_per_task": _mean(ended["num_requests"]),
        "output_tokens_per_task": _mean(ended["output_tokens"]),
        "useful_tokens_per_task": _mean(ended["useful_tokens"]),
        "check_tokens_per_task": _mean(ended["check_tokens"]),
        "wasted_tokens_per_task": _mean(ended["wasted_tokens"]),
        "wasted_frac": _ratio(ended["wasted_tokens"].sum(), ended["output_tokens"].sum()),
        "cached_frac": _ratio(ended["cached_tokens"].sum(), ended["prompt_tokens"].sum()),
        "joules_per_task": _mean(ended["joules"]),
        "usd_per_task": _mean(ended["usd"]),
    }
    for name, column in (("task_ttfo", "first_output_s"), ("task_e2el", "finish_s")):
        latency = np.asarray(answered[column] - answered["arrival_s"], dtype=np.float64)
        values |= latency_stats(name, latency[np.isfinite(latency)])
    values |= _accuracy(ended)
    solved = values["accuracy"]
    for unit in ("usd", "joules"):
        per = values[f"{unit}_per_task"]
        values[f"{unit}_per_solved"] = per / solved if per is not None and solved else None
    kept = _kept(scenario, arrived)
    values["task_goodput_frac"] = None if kept is None or arrived.empty else float(kept.mean())
    return values


def _accuracy(ended: pd.DataFrame) -> dict[str, Any]:
    """Return the share of tasks answered rightly, with Wilson's 95 % interval for the chance of this sample."""
    known = ended["correct"].dropna()
    if known.empty:
        return {"accuracy": None, "accuracy_95": None, "mean_success": None}
    from scipy.stats import binomtest

    right = int(known.sum())
    interval = binomtest(right, len(known)).proportion_ci(0.95, method="wilson")
    return {
        "accuracy": right / len(known),
        "accuracy_95": [float(interval.low), float(interval.high)],
        "mean_success": _mean(ended["success"].dropna()),
    }


def _kept(scenario: Scenario, arrived: pd.DataFrame) -> pd.Series[bool] | None:
    """Return which tasks were answered within what their tenant was promised; None where nobody was."""
    kept = arrived["status"] == TASK_STATUS[ANSWERED]
    promised = False
    since = {
        "ttfo": arrived["first_output_s"] - arrived["arrival_s"],
        "e2el": arrived["finish_s"] - arrived["arrival_s"],
    }
    for workload in scenario.workloads:
        for number, tenant in enumerate(workload.all_tenants):
            mine = (arrived["workload"] == workload.name) & (arrived["tenant"] == tenant.name)
            for name, limit in task_limits(limits_of(workload.slo_of(number))).items():
                promised = promised or bool(mine.any())
                kept &= ~(mine & ~(since[name] <= limit))
    return kept if promised else None


def task_limits(limits: Mapping[str, float]) -> dict[str, float]:
    """Return the limits that are promises about a task; the others are about each of its requests."""
    return {name: limit for name, limit in limits.items() if name in ("ttfo", "e2el")}


def _mean(values: pd.Series[float]) -> float | None:
    return None if len(values) == 0 or values.isna().all() else float(values.mean())


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
