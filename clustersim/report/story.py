"""What was asked and what came out, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clustersim.report import words
from clustersim.results.result import Result
from clustersim.scenario.plan import DeploymentPlan, deployment_of
from clustersim.units import duration
from clustersim.workload.workload import Slo, Tenant, Workload


def asked(result: Result) -> list[tuple[str, str]]:
    """Return (what, words) pairs that state the question: fleet, deployments, workloads, promises, time."""
    scenario = result.scenario
    rows = [("Fleet", words.fleet(scenario))]
    for plan in result.plans:
        deployment = plan.deployment
        formats = deployment.formats
        text = (
            f"{deployment.model.name} ({words.count(deployment.model.num_parameters)} parameters), "
            f"weights in {formats.weights}, KV cache in {formats.kv_cache}; {words.layout(plan)}; {_kind(deployment.scheduler)} scheduler, "
            f"{_kind(deployment.router)} router, {deployment.serving_engine.name} engine"
        )
        rows.append((deployment.name, text))
    for index, workload in enumerate(scenario.workloads):
        name = result.plans[deployment_of(scenario, index)].deployment.name
        rows.append((f"Workload for {name}", _workload(workload)))
    start, end = result.metrics["window_s"]
    horizon = (
        "until the workloads end" if scenario.horizon_s is None else f"for {duration(scenario.horizon_s)}"
    )
    measured = f"Requests arrive {horizon}; measured from {duration(start)} to {duration(end)}"
    rows.append(("Time", f"{measured} (warm-up rule: {_kind(scenario.warm_up)}). Seed {result.seed}."))
    return rows


def _kind(part: Any) -> str:
    return str(part.kind).replace("_", " ")


def _workload(workload: Workload) -> str:
    tenants = workload.tenants
    text = workload.name
    if workload.use and workload.use != workload.name:
        text += f", from {workload.use}"
    if tenants:
        text += f", {len(tenants)} tenants"
    arrivals, lengths = workload.arrivals, workload.lengths
    kinds = [_settings(arrivals)] if arrivals else sorted({_kind(t.arrivals) for t in tenants if t.arrivals})
    if kinds:
        text += f"; arrivals: {', '.join(kinds)}"
    kinds = [_settings(lengths)] if lengths else sorted({_kind(t.lengths) for t in tenants if t.lengths})
    if kinds:
        text += f"; lengths: {', '.join(kinds)}"
    if workload.rate_scale != 1:
        text += f"; rates times {workload.rate_scale:g}"
    return f"{text}. {_promise(workload, tenants)}"


def _settings(part: Any) -> str:
    """Return a part with its plain settings: "poisson (rate 20 req/s)"."""
    dump = part.model_dump(mode="json")
    plain = [
        f"{key} {value}"
        for key, value in dump.items()
        if key != "kind" and isinstance(value, str | int | float)
    ]
    return _kind(part) + (f" ({', '.join(plain)})" if 0 < len(plain) <= 6 else "")


def _promise(workload: Workload, tenants: tuple[Tenant, ...]) -> str:
    promised: list[Slo] = [tenant.slo for tenant in tenants if tenant.slo]
    if workload.slo is None and not promised:
        return "No SLO was given."
    if promised:
        return f"SLOs differ: {len(promised)} tenants have their own."
    assert workload.slo is not None
    limits = workload.slo.model_dump(exclude_none=True, by_alias=True, mode="json")
    return f"SLO: {', '.join(f'{name.upper()} < {limit}' for name, limit in limits.items())}."


def answer(result: Result, plan: DeploymentPlan) -> Iterator[str]:
    """Yield the sentences that answer for one deployment."""
    metrics = result.metrics["deployments"][plan.deployment.name]
    yield _keeps_up(plan, metrics)
    if not metrics["completed"]:
        return
    yield from _latency(metrics)
    if metrics["request_goodput"] is not None and metrics["goodput_frac"] is not None:
        yield (
            f"{metrics['goodput_frac'] * 100:.1f} % of the requests that finished met the SLO "
            f"({words.slos(result.scenario, plan.index)}): {words.number(metrics['request_goodput'])} of "
            f"{words.number(metrics['request_throughput'])} requests a second."
        )
    cost = metrics["usd_per_output_mtok"]
    money = (
        "no price is known for this accelerator"
        if cost is None
        else f"a million output tokens cost {words.usd(cost)}"
    )
    energy = f"one output token takes {words.number(metrics['joules_per_output_token'])} J at the meter"
    yield f"{money[0].upper()}{money[1:]}; {energy}."


def _keeps_up(plan: DeploymentPlan, metrics: Mapping[str, Any]) -> str:
    name, use = plan.deployment.name, metrics["utilisation"]
    most = f"the {words.number(metrics['capacity_requests_per_s'])} requests a second that it could finish at best"
    if metrics["regime"] == "OVERLOADED":
        return (
            f"{name} does not keep up: the load is {use:.2f} times {most}, and its queue grew through the measured "
            "window. TTFT, TTFO and end-to-end latency grow for as long as the run lasts, so their tails are unbounded."
        )
    if metrics["regime"] == "NEAR_SATURATION":
        return f"{name} keeps up, but is near saturation: the load is {use * 100:.0f} % of {most}."
    return f"{name} keeps up: the load is {use * 100:.0f} % of {most}."


def _latency(metrics: Mapping[str, Any]) -> Iterator[str]:
    def of(name: str) -> str:
        return words.latency(metrics, name, "p50")

    tail = words.latency(metrics, "ttft", "p99")
    within = "" if tail == words.UNBOUNDED else f", 99 % within {tail}"
    if metrics["unbounded"]:
        yield (
            f"Half of the requests that finished had their first token within {of('ttft')} in this run; "
            "a longer run gives more."
        )
    else:
        yield f"Half of the requests have their first token within {of('ttft')}{within}."
        thinking = (
            ""
            if not metrics["total_thinking"]
            else f", the first token of the answer, after thinking, within {of('ttfo')}"
        )
        end = words.latency(metrics, "e2el", "p99")
        yield f"Half have the whole response within {of('e2el')}{thinking}; 99 % are done within {end}."
    if metrics["p50_tpot_ms"] is not None:
        yield f"After the first, a token takes {of('tpot')} in the median."


def caveats(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sentences that say how far to trust the answer."""
    evidence = metrics["time_by_evidence"]
    if evidence:
        shares = ", ".join(
            f"{words.percent(evidence[kind])} {kind}" for kind in words.EVIDENCE if evidence.get(kind, 0) > 0
        )
        yield f"Of the simulated step time, {shares}."
    interval = words.error_interval(metrics)
    if interval:
        yield (
            f"The 80 % interval of the median TPOT is {interval}; it covers the error of the operator model alone, "
            "not that of the workload or of prices."
        )
    yield "This is one run with one seed: sampling error is not shown. Replications give it."


def tiles(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (label, value, small print) of the key numbers."""
    share = metrics["goodput_frac"]
    kept = (
        "no SLO given"
        if metrics["request_goodput"] is None
        else "n/a"
        if share is None
        else f"{share * 100:.1f} % in SLO"
    )
    return [
        ("Throughput", f"{words.number(metrics['request_throughput'])} req/s", kept),
        *(
            (name.upper(), words.latency(metrics, name, "p50"), f"p99 {words.latency(metrics, name, 'p99')}")
            for name in words.LATENCIES
        ),
        (
            "Output", f"{words.number(metrics['tokens_per_s_per_gpu'])} tok/s/GPU",
            f"{words.number(metrics['tokens_per_s_per_user'])} tok/s a user",
        ),
        ("Cost", words.usd(metrics["usd_per_output_mtok"]), "per million output tokens"),
        (
            "Energy", f"{words.number(metrics['joules_per_output_token'])} J",
            f"per output token; {words.carbon_per_1k(metrics)} per 1k requests",
        ),
        (
            "Use", f"MFU {words.percent(metrics['mfu'])}",
            f"MBU {words.percent(metrics['mbu'])}; KV {words.percent(metrics['mean_kv_frac'])}",
        ),
    ]  # fmt: skip
