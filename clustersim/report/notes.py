"""What a reader must know before believing or repeating a number; the console and the HTML page share every word."""

from __future__ import annotations

from collections.abc import Iterator

from clustersim.records import SHED
from clustersim.report import load
from clustersim.results.result import Result
from clustersim.scenario.plan import DeploymentPlan


def warnings(result: Result) -> Iterator[str]:
    """Yield the notes about each deployment, then those about the run."""
    for plan in result.plans:
        yield from _of(result, plan)
    idle = result.metrics["idle_accelerators"]
    if idle:
        yield f"{idle:,} accelerators of the fleet belong to no deployment; neither cost nor energy counts them."
    for line in result.metrics["settings_without_effect"]:
        yield f"No effect on this run: {line}."


def _of(result: Result, plan: DeploymentPlan) -> Iterator[str]:
    name, metrics = plan.deployment.name, result.metrics["deployments"][plan.deployment.name]
    away = load.turned_away(result, plan)
    if metrics["regime"] == "OVERLOADED":
        yield (
            f"{name} is OVERLOADED: requests come faster than they are served, so the queue, and with it TTFT, "
            "TTFO and E2EL, grow for as long as the run lasts. Their means and tails have no value."
        )
    elif metrics["regime"] == "NEAR_SATURATION" and away:
        yield f"{name} does not keep up with all that comes: it is near saturation though it turned {away} away."
    elif metrics["regime"] == "NEAR_SATURATION":
        yield f"{name} is near saturation: a little more load, or a burst, and its latencies rise steeply."
    if metrics["failed"]:
        longest = metrics["longest_request_tokens"]
        few = f"{name} rejected {metrics['failed']:,} of {metrics['num_requests']:,} requests"
        yield f"{few}: they have more than the {longest:,} tokens that a request may have here."
    yield from _shed(result, plan)
    if metrics["regime"] != "STABLE":
        yield from load.adapters(result, plan)
    if metrics["num_preemptions"]:
        often = f"{name} preempted sequences {metrics['num_preemptions']:,} times: its KV cache was full"
        yield f"{often}. Utilisation leaves out what computing them anew takes."
    if not metrics["completed"]:
        yield f"{name} finished no request that arrived in the window: there is nothing to measure."


def _shed(result: Result, plan: DeploymentPlan) -> Iterator[str]:
    """Yield how many were turned away when they came, and how many while they waited."""
    name, rows = plan.deployment.name, result.served[plan.index].requests
    total = result.metrics["deployments"][name].get("shed")
    if not total:
        return
    late = int(((rows["status"] == SHED) & (rows["finish_s"] > rows["entered_s"])).sum())
    if total > late:
        yield f"{name} turned away {total - late:,} requests on arrival: latencies are of those it let in."
    if late:
        yield (
            f"{name} gave up {late:,} requests that had waited in its queue for too long: latencies are of those that "
            "it served."
        )
