"""The metrics of one deployment, or of several as one, under vLLM's keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from clustersim.cost.account import Account
from clustersim.economics.prices import Cost
from clustersim.metrics import latency_stats, time_average
from clustersim.records import FINISHED, Floats
from clustersim.results.admission import admission_metrics, shed_metrics
from clustersim.results.energy import Bill
from clustersim.results.held import HOLDING, WORKING, Held, fleet_metrics
from clustersim.results.regime import Load
from clustersim.results.served import Served, good, mean_kv_blocks
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.units import HOUR_S, KWH_J, MEGA

#: Latencies whose tail has no bound while the queue grows.
_UNBOUNDED = ("ttft", "ttfo", "e2el", "queue")
#: Normal quantile of a two-sided 80 % interval.
_Z80 = 1.2816


def deployment_metrics(
    scenario: Scenario,
    plan: DeploymentPlan,
    served: Served,
    spent: Account,
    cost: Bill,
    load: Load,
    held: Held,
) -> dict[str, Any]:
    """Return the metrics of one deployment."""
    per_gpu = plan.deployment.parallelism.num_accelerators
    values = _counts(served, scenario) | _latencies(served, load.regime == "OVERLOADED")
    user = 1 / np.maximum(served.in_window("tpot"), 1e-12)
    runs, window = served.runs, served.window_s
    per_replica = held.mean(*WORKING)
    kv_blocks = mean_kv_blocks(runs, plan.memory.engine.block_size)
    values |= {
        "regime": load.regime,
        "utilisation": load.utilisation,
        "capacity_requests_per_s": load.capacity_per_s,
        "queue_grew": load.queue_grew,
        "queued_frac": load.queued_frac,
        "num_accelerators": held.most * per_gpu,
        "accelerator": plan.cluster.node.accelerator.name,
        "tokens_per_s_per_gpu": values["output_throughput"] / (held.mean(*HOLDING) * per_gpu),
        "tokens_per_s_per_user": float(np.median(user)) if len(user) else None,
        "mean_batch": time_average(runs["start_s"], runs["end_s"], runs["batch"], window) / per_replica,
        "mean_kv_frac": time_average(runs["start_s"], runs["end_s"], kv_blocks, window)
        / (plan.memory.num_blocks * per_replica),
        "mean_queue": _mean_queue(served),
        "mfu": _mean_use(served, spent.compute_use, spent, per_replica),
        "mbu": _mean_use(served, spent.memory_use, spent, per_replica),
        "kv_capacity_tokens": plan.memory.kv_tokens,
        "longest_request_tokens": min(plan.max_model_len, plan.memory.tokens_per_rank),
    }
    values |= admission_metrics(plan.deployment, served) | fleet_metrics(scenario, plan, served, held)
    values |= _money(served, cost)
    values |= {
        "time_by_part": _token_time(served, spent),
        "time_by_operator": dict(sorted(spent.operators.items(), key=lambda item: -item[1])),
        "time_by_evidence": spent.evidence,
        "step_time_rel_error": spent.rel_error,
    }
    if plan.deployment.speculation is not None:
        values["speculation"] = {"tokens_per_step": plan.step_time.tokens_per_step}
    if values["p50_tpot_ms"] is not None:
        spread = _Z80 * spent.rel_error
        values["p50_tpot_ms_80"] = [
            values["p50_tpot_ms"] * (1 - spread),
            values["p50_tpot_ms"] * (1 + spread),
        ]
    return values


def in_clusters(plans: list[DeploymentPlan], most: list[int]) -> int:
    """Return the accelerators that deployments have together, who have at `most` so many each: some in turn, maybe."""
    taken: dict[str, list[int]] = {}
    for plan, number in zip(plans, most, strict=True):
        taken.setdefault(plan.cluster.name, [plan.cluster.num_accelerators, 0])[1] += number
    return sum(map(min, taken.values()))


def together(
    scenario: Scenario, plans: list[DeploymentPlan], every: list[dict[str, Any]], served: list[Served]
) -> dict[str, Any]:
    """Return the metrics of all deployments as one: latencies of all requests, sums of what adds up."""
    names = served[0].requests
    own = [view for view in served if not view.prefills]
    rows = {name: np.concatenate([view.requests[name] for view in own]) for name in names}
    runs = {name: np.concatenate([view.runs[name] for view in served]) for name in served[0].runs}
    slices = {name: np.concatenate([view.slices[name] for view in served]) for name in served[0].slices}
    whole = Served(rows, runs, slices, served[0].window_s)
    order = ("STABLE", "NEAR_SATURATION", "OVERLOADED")
    regime = max((values["regime"] for values in every), key=order.index)
    values = _counts(whole, scenario) | _latencies(whole, regime == "OVERLOADED") | {"regime": regime}
    values["num_accelerators"] = in_clusters(plans, [each["num_accelerators"] for each in every])
    for key in ("energy_kwh", "it_energy_kwh", "mean_power_w", "usd", "gco2e"):
        parts = [each[key] for each in every]
        values[key] = None if None in parts else sum(parts)
    tokens = whole.output_tokens
    held = sum(each["gpu_hours"] * HOUR_S / whole.length_s if "gpu_hours" in each else each["num_accelerators"]
               for each in every)  # fmt: skip
    values["tokens_per_s_per_gpu"] = values["output_throughput"] / max(held, 1e-12)
    for key in ("gpu_hours", "cold_starts", "retries", "lost", "lost_tokens"):
        if any(key in each for each in every):
            values[key] = sum(each.get(key, 0) for each, view in zip(every, served, strict=True) if not (
                view.prefills and key in ("retries", "lost", "lost_tokens")))  # fmt: skip
    if any("shed" in each for each in every):
        values |= shed_metrics(whole)
    for key, total in (("usd", "usd"), ("gco2e", "gco2e")):
        amount = values[total]
        values[f"{key}_per_output_mtok"] = None if amount is None or not tokens else amount / tokens * MEGA
    values["joules_per_output_token"] = values["energy_kwh"] * KWH_J / tokens if tokens else None
    return values


def _counts(served: Served, scenario: Scenario) -> dict[str, Any]:
    rows, measured, length = served.requests, served.measured, served.length_s
    kept = good(served, scenario.workloads)
    done = (rows["finish_s"] > served.window_s[0]) & (rows["finish_s"] <= served.window_s[1])
    done &= rows["status"] == FINISHED
    output = rows["thinking_tokens"] + rows["answer_tokens"]
    return {
        "duration": length,
        "completed": int(measured.sum()),
        "failed": served.num_rejected,
        "num_requests": len(rows["arrival_s"]),
        "num_preemptions": int(rows["num_preemptions"].sum()),
        "total_input": int(rows["input_tokens"][measured].sum()),
        "total_output": int(output[measured].sum()),
        "total_thinking": int(rows["thinking_tokens"][measured].sum()),
        "request_throughput": float(done.sum() / length),
        "request_goodput": None if kept is None else float((kept & served.arrived).sum() / length),
        "goodput_frac": None
        if kept is None or not served.arrived.any()
        else float(kept[served.arrived].mean()),
        "output_throughput": served.output_tokens / length,
        "total_token_throughput": (served.output_tokens + served.input_tokens) / length,
    }


def _latencies(served: Served, overloaded: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in ("ttft", "ttfo", "tpot", "e2el", "queue"):
        stats = latency_stats(name, served.in_window(name))
        if overloaded and name in _UNBOUNDED:
            stats = dict.fromkeys(stats)
        values |= stats
    values |= latency_stats("itl", *served.step_gaps)
    values["unbounded"] = list(_UNBOUNDED) if overloaded else []
    return values


def _mean_queue(served: Served) -> float:
    return time_average(*served.queued, 1.0, served.window_s)


def _mean_use(served: Served, use: Floats, spent: Account, replicas: float) -> float:
    """Return the mean over the window, idle time included, of a use that is sampled over busy time."""
    inside = served.overlap[spent.run]
    busy = time_average(served.runs["start_s"], served.runs["end_s"], 1.0, served.window_s) / replicas
    return float(np.average(use, weights=inside) * busy) if inside.any() else 0.0


def _money(served: Served, cost: Bill) -> dict[str, Any]:
    tokens = 0 if served.prefills else served.output_tokens  # what a prefill pool makes is others' output

    def per_mtok(amount: float | None) -> float | None:
        return None if amount is None or tokens == 0 else amount / tokens * MEGA

    return {
        "energy_kwh": cost.facility_j / KWH_J,
        "it_energy_kwh": cost.it_j / KWH_J,
        "mean_power_w": cost.facility_j / served.length_s,
        "joules_per_output_token": None if tokens == 0 else cost.facility_j / tokens,
        "joules_per_output_mtok": per_mtok(cost.facility_j),
        "usd": cost.usd,
        "usd_per_output_mtok": per_mtok(cost.usd),
        "usd_per_request": None if cost.usd is None or not served.measured.any()
        else cost.usd / max(1.0, float(served.measured.sum())),
        "gco2e": cost.gco2e,
        "gco2e_per_output_mtok": per_mtok(cost.gco2e),
        "water_l": cost.water_l,
        "price": _price(cost.price),
    }  # fmt: skip


def _price(price: Cost | None) -> dict[str, Any] | None:
    if price is None:
        return None
    return {"usd_per_gpu_hour": price.usd_per_s * HOUR_S, "evidence": price.evidence, "source": price.source}


def _token_time(served: Served, spent: Account) -> dict[str, float]:
    """Return where the requests' time goes: steps by part, weighted by the requests in them, queue and frontend."""
    if not len(spent.run):
        return {}
    inside = (served.runs["batch"] + served.runs["num_prefills"])[spent.run]
    busy = served.runs["end_s"] - served.runs["start_s"]
    in_steps = float((busy * (served.runs["batch"] + served.runs["num_prefills"])).sum())
    rows = served.requests
    waits = {"queue": served.latencies["queue"], "frontend": rows["entered_s"] - rows["arrival_s"]}
    outside = {name: float(wait[np.isfinite(wait)].sum()) for name, wait in waits.items()}
    whole = in_steps + sum(outside.values())
    shares = {part: float(np.average(share, weights=inside)) for part, share in spent.parts.items()}
    return {part: share * in_steps / whole for part, share in shares.items()} | {
        name: seconds / whole for name, seconds in outside.items()
    }
