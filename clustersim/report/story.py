"""What was asked and what came out, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clustersim.report import fleet, load, pools, tasks, words
from clustersim.results.result import Result
from clustersim.scenario.plan import DeploymentPlan, deployments_of
from clustersim.units import GIGA
from clustersim.workload.workload import Slo, Tasks, Tenant, Workload

_LATENCY_LABELS = {
    "ttft": "First token",
    "tpot": "Each token",
    "ttfo": "Answer starts",
    "e2el": "Whole response",
}
_REPLICATED = {
    "accuracy": "Tasks answered rightly, share",
    "usd_per_task": "Cost of a task, USD",
    "usd_per_solved": "Cost of a task solved, USD",
    "joules_per_solved": "Energy of a task solved, J",
    "task_goodput_frac": "Tasks within SLO, share",
    "p50_task_e2el_ms": "Task done p50, ms",
    "p99_task_e2el_ms": "Task done p99, ms",
    "request_throughput": "Requests finished, req/s",
    "goodput_frac": "Share within SLO",
    "prefix_hit_frac": "Input found in KV cache, share",
    "shed_frac": "Requests turned away, share",
    "availability_frac": "Replicas available, share",
    "gpu_hours": "Accelerators held, GPU-hours",
    "p50_ttft_ms": "TTFT p50, ms",
    "p99_ttft_ms": "TTFT p99, ms",
    "p50_tpot_ms": "TPOT p50, ms",
    "p99_tpot_ms": "TPOT p99, ms",
    "p50_e2el_ms": "E2EL p50, ms",
    "p99_e2el_ms": "E2EL p99, ms",
    "tokens_per_s_per_gpu": "Output, tok/s/GPU",
    "usd_per_output_mtok": "Cost, USD per million output tokens",
    "joules_per_output_token": "Energy, J per output token",
}


def asked(result: Result) -> list[tuple[str, str]]:
    """Return (what, words) pairs that state the question: fleet, deployments, workloads, promises, time."""
    scenario = result.scenario
    rows = [("Fleet", words.fleet(scenario))]
    for plan in result.plans:
        deployment = plan.deployment
        formats = deployment.formats
        text = (
            f"{deployment.model.name} ({words.number(deployment.model.num_parameters / GIGA)} B parameters), "
            f"weights in {formats.weights}, KV cache in {formats.kv_cache}; {words.layout(plan)}; "
            f"{words.kind(deployment.scheduler)} scheduler, "
            f"{words.kind(deployment.router)} router, {deployment.serving_engine.name} engine"
        )
        rows.append((deployment.name, text))
    for index, workload in enumerate(scenario.workloads):
        names = [result.plans[number].deployment.name for number in deployments_of(scenario, index)]
        text = _workload(workload)
        if len(names) > 1:
            gateway = words.kind(workload.gateway) if workload.gateway else "least outstanding requests"
            text += f"; gateway: {gateway}"
        rows.append((f"Workload for {', '.join(names)}", text))
    start, end = result.metrics["window_s"]
    horizon = (
        "until the workloads end" if scenario.horizon_s is None else f"for {words.span(scenario.horizon_s)}"
    )
    measured = f"Requests arrive {horizon}; measured from {words.span(start)} to {words.span(end)}"
    rows.append(
        ("Time", f"{measured} (warm-up rule: {words.kind(scenario.warm_up_rule)}). Seed {result.seed}.")
    )
    return rows


def _workload(workload: Workload) -> str:
    tenants = workload.tenants
    text = workload.name
    if tenants:
        text += f", {len(tenants)} tenants"
    arrivals, lengths = workload.arrivals, workload.lengths
    kinds = (
        [_settings(arrivals)] if arrivals else sorted({words.kind(t.arrivals) for t in tenants if t.arrivals})
    )
    if kinds:
        text += f"; arrivals: {', '.join(kinds)}"
    kinds = [_settings(lengths)] if lengths else sorted({words.kind(t.lengths) for t in tenants if t.lengths})
    if kinds:
        text += f"; lengths: {', '.join(kinds)}"
    if workload.rate_scale != 1:
        text += f"; rates times {workload.rate_scale:g}"
    if workload.tasks is not None:
        text += (
            f". Each arrival is a task: {tasks.strategy(workload.tasks.strategy)}{_problems(workload.tasks)}"
        )
    return f"{text}. {_promise(workload, tenants)}"


def _problems(of: Tasks) -> str:
    return "" if of.benchmark is None else f"; the problems are those of {of.benchmark}"


def _settings(part: Any) -> str:
    """Return a part with its plain settings: "poisson (rate 20 req/s)"."""
    dump = part.model_dump(mode="json")
    plain = [
        f"{key} {value}"
        for key, value in dump.items()
        if key != "kind" and isinstance(value, str | int | float)
    ]
    return words.kind(part) + (f" ({', '.join(plain)})" if 0 < len(plain) <= 6 else "")


def _promise(workload: Workload, tenants: tuple[Tenant, ...]) -> str:
    promised: list[Slo] = [tenant.slo for tenant in tenants if tenant.slo]
    if workload.slo is None and not promised:
        return "No SLO was given."
    if promised:
        return f"SLOs differ: {len(promised)} tenants have their own."
    assert workload.slo is not None
    limits = workload.slo.model_dump(exclude_none=True, by_alias=True, mode="json")
    if not limits:
        return "No SLO was given."
    return f"SLO: {', '.join(f'{name.upper()} < {limit}' for name, limit in limits.items())}."


def answer(result: Result, plan: DeploymentPlan) -> Iterator[str]:
    """Yield the sentences that answer for one deployment."""
    metrics = result.metrics["deployments"][plan.deployment.name]
    yield from load.keeps_up(result, plan)
    if not metrics["completed"]:
        return
    if pools.prefills(result, plan):
        yield _first_token(metrics)
    else:
        yield from _latency(metrics)
        yield from _kept(result, plan, metrics)
    yield from fleet.sentences(metrics, fleet.of(result, plan))
    yield from pools.sentences(result, plan)


def _kept(result: Result, plan: DeploymentPlan, metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics["request_goodput"] is not None and metrics["goodput_frac"] is not None:
        yield (
            f"{metrics['goodput_frac'] * 100:.1f} % of the requests that arrived met the SLO "
            f"({words.slos(result.scenario, plan.index)}): {words.number(metrics['request_goodput'])} of "
            f"{words.number(words.arrivals_per_s(result, plan))} a second."
        )


def _first_token(metrics: Mapping[str, Any]) -> str:
    """Return when first tokens come."""
    half, tail = words.latency(metrics, "ttft", "p50"), words.latency(metrics, "ttft", "p99")
    if metrics["unbounded"]:
        return (
            f"Half of the requests that finished had their first token within {half} in this run; "
            "a longer run gives more."
        )
    return f"Half of the requests have their first token within {half}, 99 % within {tail}."


def _latency(metrics: Mapping[str, Any]) -> Iterator[str]:
    def of(name: str) -> str:
        return words.latency(metrics, name, "p50")

    yield _first_token(metrics)
    if not metrics["unbounded"]:
        thinking = (
            ""
            if not metrics["total_thinking"]
            else f", the first token of the answer, after thinking, within {of('ttfo')}"
        )
        end = words.latency(metrics, "e2el", "p99")
        yield f"Half have the whole response within {of('e2el')}{thinking}; 99 % are done within {end}."
    if metrics["p50_tpot_ms"] is not None:
        yield f"After the first, a token takes {of('tpot')} in the median."


def caveats(metrics: Mapping[str, Any], replicated: bool) -> Iterator[str]:
    """Yield the sentences that say how far to trust the answer."""
    evidence = metrics["time_by_evidence"]
    if evidence:
        shares = [f"{words.percent(evidence[kind])} {kind}" for kind in words.EVIDENCE if evidence.get(kind)]
        yield f"The simulated step time rests on figures that are {words.listed(shares)}."
    interval = words.error_interval(metrics)
    if interval:
        yield (
            f"The 80 % interval of the median TPOT is {interval}; it covers the error of the operator model alone, "
            "not that of the workload or of prices."
        )
    if not replicated:
        yield "This is one run with one seed: sampling error is not shown; --replications gives it."


def tiles(result: Result, plan: DeploymentPlan) -> Iterator[tuple[str, str, str, str]]:
    """Yield (label, value, unit, small print) of the key numbers."""
    metrics = result.metrics["deployments"][plan.deployment.name]
    if pools.prefills(result, plan):
        yield "Requests prefilled", words.number(metrics["request_throughput"]), "req/s", ""
    else:
        share = metrics["goodput_frac"]
        kept = "no SLO given" if metrics["request_goodput"] is None else "nothing measured"
        if share is None and words.serves_tasks(result.scenario, plan.index):
            kept = "of tasks"
        yield (
            "Requests finished", words.number(metrics["request_throughput"]), "req/s",
            kept if share is None else f"{share * 100:.1f} % within SLO",
        )  # fmt: skip
    for name in pools.latencies(result, plan):
        tail = words.latency(metrics, name, "p99")
        small = f"median; p99 {tail}" if metrics["completed"] else ""
        yield f"{_LATENCY_LABELS[name]} ({name.upper()})", words.latency(metrics, name, "p50"), "", small
    yield from pools.tiles(result, plan)
    yield (
        "FLOP/s in use (MFU)",
        words.percent(metrics["mfu"]),
        "",
        f"memory bandwidth (MBU) {words.percent(metrics['mbu'])}",
    )
    batch, queue = words.number(metrics["mean_batch"]), words.number(metrics["mean_queue"])
    yield (
        "KV cache in use",
        words.percent(metrics["mean_kv_frac"]),
        "",
        f"mean batch {batch}, mean queue {queue}",
    )


def replications(result: Result) -> dict[str, Any] | None:
    """Return the number of replications and (metric, mean, interval) rows; None for a single run."""
    several = result.metrics.get("replications")
    if several is None:
        return None
    rows = []
    for key, label in _REPLICATED.items():
        each = several["intervals_95"].get(key)
        if each is not None and each["mean"] is None:
            rows.append((label, "unbounded or missing in a replication", ""))
        elif each is not None:
            rows.append((label, f"{each['mean']:,.4g}", f"{each['low']:,.4g} to {each['high']:,.4g}"))
    return {"num": len(several["seeds"]), "rows": rows}
