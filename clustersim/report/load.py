"""Whether a deployment keeps up, in sentences: with what share of its capacity, what is full, who was turned away."""

from __future__ import annotations

from collections.abc import Iterator

from clustersim.report import words
from clustersim.results.result import Result
from clustersim.results.waits import adapter_wait_frac
from clustersim.scenario.plan import DeploymentPlan

#: Share of KV, or of the places in a batch, in use in the mean from which on it is called full.
_FULL = 0.9


def keeps_up(result: Result, plan: DeploymentPlan) -> Iterator[str]:
    """Yield whether a deployment keeps up, and what is full where it does not, or hardly."""
    name = plan.deployment.name
    metrics = result.metrics["deployments"][name]
    use, regime, away = metrics["utilisation"], metrics["regime"], turned_away(result, plan)
    if not metrics["completed"]:
        few = f"{metrics['failed']:,} of {metrics['num_requests']:,}"
        some = f"; {few} were rejected" if metrics["failed"] else ""
        shed = f"; it turned {away} away" if away else ""
        yield f"{name} finished none of the requests that arrived in the measured window{some}{shed}."
        return
    most = f"the {words.number(metrics['capacity_requests_per_s'])} requests a second that it could finish at best"
    if regime == "OVERLOADED":
        even = f"even with {away} turned away, " if away else ""
        yield (
            f"{name} does not keep up: {even}the load is {use:.2f} times {most}, and its queue grew through the "
            "measured window. TTFT, TTFO and end-to-end latency grow for as long as the run lasts, so their tails are "
            "unbounded."
        )
    elif away:
        near = ", and it is near saturation with that" if regime == "NEAR_SATURATION" else ""
        yield (
            f"{name} does not keep up with all that comes: it turned {away} away. What it let in is "
            f"{use * 100:.0f} % of {most}{near}."
        )
    elif regime == "NEAR_SATURATION":
        yield f"{name} keeps up, but is near saturation: the load is {use * 100:.0f} % of {most}."
    else:
        yield f"{name} keeps up: the load is {use * 100:.0f} % of {most}."
    if away or regime != "STABLE":
        yield from causes(result, plan)


def turned_away(result: Result, plan: DeploymentPlan) -> str:
    """Return the share of a deployment's requests that it turned away, in words; "" for none."""
    metrics = result.metrics["deployments"][plan.deployment.name]
    if not metrics.get("shed"):
        return ""
    share = metrics.get("shed_frac")
    return f"{share * 100:.1f} % of the requests" if share else f"{metrics['shed']:,} requests"


def causes(result: Result, plan: DeploymentPlan) -> Iterator[str]:
    """Yield what requests wait for: KV, places in a batch, slots for adapters; and what capacity leaves out."""
    metrics = result.metrics["deployments"][plan.deployment.name]
    slots = plan.deployment.scheduler.max_num_seqs * plan.deployment.parallelism.attention_dp
    kv, batch, again = metrics["mean_kv_frac"], metrics["mean_batch"], metrics["num_preemptions"]
    if kv >= _FULL:
        yield f"What is full is the KV cache: {words.percent(kv)} of it is in use in the mean."
    elif batch >= _FULL * slots:
        yield f"What is full is the batch: {words.number(batch)} of {slots:,} sequences in the mean (max_num_seqs)."
    yield from adapters(result, plan)
    if again:
        yield (
            f"KV ran out, and sequences were preempted {again:,} times; to compute them anew takes work that this "
            "capacity leaves out."
        )


def adapters(result: Result, plan: DeploymentPlan) -> Iterator[str]:
    """Yield that requests wait for slots for adapters, where that is most of what they wait for."""
    share = adapter_wait_frac(plan, result.served[plan.index])
    if share is not None and share > 0.5:
        assert plan.deployment.lora is not None
        slots = plan.deployment.lora.max_loras
        yield (
            f"{words.percent(share)} of the time that requests of {plan.deployment.name} queue they wait for a slot "
            f"for their adapter (max_loras {slots}), which its capacity leaves out."
        )
