"""Settings that somebody gave and that had no effect on the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from clustersim.records import LOST, SHED
from clustersim.results.admission import sheds
from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario


def without_effect(plans: list[DeploymentPlan], served: list[Served], scenario: Scenario) -> list[str]:
    """Return each such setting once with the reason, in words."""
    found = [
        line
        for plan, view in zip(plans, served, strict=True)
        for line in (*_of(plan, view), *_scheduler(plan, view), *_cluster(plan, plans))
    ]
    return list(dict.fromkeys([*found, *_never_started(scenario)]))


def _of(plan: DeploymentPlan, served: Served) -> Iterator[str]:
    deployment = plan.deployment
    given = deployment.model_fields_set
    at = f"deployments.{deployment.name}"
    rows, layout = served.requests, deployment.parallelism
    if sheds(deployment) and not (rows["status"] == SHED).any():
        yield f"{at}.admission: nobody was turned away"
    if "router" in given and plan.max_replicas == 1:
        yield f"{at}.router: there is one replica"
    if deployment.speculation is not None and not deployment.speculation.num_draft_tokens:
        yield f"{at}.speculation: num_draft_tokens is 0"
    if deployment.lora is not None and not (rows["adapter"] >= 0).any():
        yield f"{at}.lora: no request asked for an adapter; its slots take memory, and time in each step, all the same"
    if "expert_imbalance" in given and deployment.model.moe is None:
        yield f"{at}.expert_imbalance: {deployment.model.name} has no experts"
    if "expert_popularity" in given and layout.ep == 1:
        why = "every rank has all experts" if deployment.model.moe else f"{deployment.model.name} has none"
        yield f"{at}.expert_popularity: {why}"
    if "max_model_len" in given and served.num_rejected == 0:
        yield f"{at}.max_model_len: no request was longer"
    if "kv_transfer" in given and deployment.prefill_by is None:
        yield f"{at}.kv_transfer: it names nobody in prefill_by, so no KV is sent to it"
    if "retries" in given and served.prefills:
        yield f"{at}.retries: those of the deployment that decodes are in force"
    elif "retries" in given and not (rows["num_retries"].any() or (rows["status"] == LOST).any()):
        yield f"{at}.retries: no replica died with a request on it"


def _scheduler(plan: DeploymentPlan, served: Served) -> Iterator[str]:
    scheduler, layout = plan.deployment.scheduler, plan.deployment.parallelism
    at = f"deployments.{plan.deployment.name}.scheduler"
    runs, rows = served.runs, served.requests
    set_here = scheduler.model_fields_set
    slots = scheduler.max_num_seqs * layout.attention_dp
    busiest = int(np.max(runs["batch"] + runs["num_prefills"], initial=0))
    if "max_num_seqs" in set_here and busiest < slots:
        yield f"{at}.max_num_seqs: batches had at most {busiest} of {slots} sequences"
    budget = scheduler.max_step_tokens
    if budget is not None and "token_budget" in set_here:
        most = int(np.max(runs["batch"] + runs["prefill_tokens"], initial=0))
        whole = budget * layout.attention_dp * layout.pp
        if most < whole:
            yield f"{at}.token_budget: steps had at most {most} of {whole} tokens"
    if scheduler.kind == "priority" and _in_turn(plan, served):
        one = np.unique(rows["priority"])
        if len(one) == 1 and _in_order_of_arrival(plan, served):
            yield f"{at}: kind priority, but all requests have priority {int(one[0])}: first come first served"
    tenants = np.unique(np.stack([rows["workload"], rows["tenant"]]), axis=1)
    if scheduler.kind == "fair" and tenants.shape[1] == 1 and _in_turn(plan, served):
        yield f"{at}: kind fair, but all requests are of one tenant: first come first served"


def _in_turn(plan: DeploymentPlan, served: Served) -> bool:
    """Whether none of its requests was passed over, or came back to the queue, where schedulers differ otherwise."""
    rows = served.requests
    again = rows["num_preemptions"].any() or rows["num_retries"].any()
    return not (served.prefills or plan.deployment.lora or again)


def _in_order_of_arrival(plan: DeploymentPlan, served: Served) -> bool:
    """Whether requests joined the queue in order of arrival."""
    rows, deployment = served.requests, plan.deployment
    if deployment.prefill_by is not None or deployment.kv_tiers:
        return False
    came = np.isfinite(rows["entered_s"])
    order = np.argsort(rows["entered_s"][came], kind="stable")
    return bool((np.diff(rows["arrival_s"][came][order]) >= 0).all())


def _cluster(plan: DeploymentPlan, plans: Sequence[DeploymentPlan]) -> Iterator[str]:
    """Yield the network between nodes that nothing crosses: no replica's ranks, and no KV that is handed over.

    Weights, and KV that is offloaded, have networks of their own; see network.interconnect.
    """
    here = [other for other in plans if other.cluster.name == plan.cluster.name]
    prefilling = {other.deployment.prefill_by for other in plans}
    crossed = any(
        other.deployment.parallelism.num_accelerators > other.cluster.node.count
        or other.deployment.prefill_by is not None
        or other.deployment.name in prefilling
        for other in here
    )
    if "network" in plan.cluster.model_fields_set and not crossed:
        yield f"fleet cluster {plan.cluster.name}.network: a replica stays within one node"


def _never_started(scenario: Scenario) -> Iterator[str]:
    if scenario.failures or any(deployment.autoscaler for deployment in scenario.deployments):
        return
    updated = {update.deployment for update in scenario.updates}
    for deployment in scenario.deployments:
        if "startup" in deployment.model_fields_set and deployment.name not in updated:
            why = "no replica starts: there are no failures, updates or autoscalers"
            yield f"deployments.{deployment.name}.startup: {why}"
