"""Settings that somebody gave and that had no effect on the run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clustersim.records import SHED
from clustersim.results.admission import sheds
from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan


def without_effect(plans: list[DeploymentPlan], served: list[Served]) -> list[str]:
    """Return each such setting with the reason, in words."""
    return [line for plan, view in zip(plans, served, strict=True) for line in _of(plan, view)]


def _of(plan: DeploymentPlan, served: Served) -> Iterator[str]:
    deployment = plan.deployment
    given = deployment.model_fields_set
    at = f"deployments.{deployment.name}"
    scheduler = deployment.scheduler
    runs, layout = served.runs, deployment.parallelism
    set_here = scheduler.model_fields_set
    slots = scheduler.max_num_seqs * layout.attention_dp
    busiest = int(np.max(runs["batch"] + runs["num_prefills"], initial=0))
    if "max_num_seqs" in set_here and busiest < slots:
        yield f"{at}.scheduler.max_num_seqs: batches had at most {busiest} of {slots} sequences"
    budget = scheduler.max_step_tokens
    if budget is not None and "token_budget" in set_here:
        most = int(np.max(runs["batch"] + runs["prefill_tokens"], initial=0))
        whole = budget * layout.attention_dp * layout.pp
        if most < whole:
            yield f"{at}.scheduler.token_budget: steps had at most {most} of {whole} tokens"
    if sheds(deployment) and not (served.requests["status"] == SHED).any():
        yield f"{at}.admission: nobody was turned away"
    if "router" in given and plan.max_replicas == 1:
        yield f"{at}.router: there is one replica"
    if deployment.speculation is not None and not deployment.speculation.num_draft_tokens:
        yield f"{at}.speculation: num_draft_tokens is 0"
    if "expert_imbalance" in given and deployment.model.moe is None:
        yield f"{at}.expert_imbalance: {deployment.model.name} has no experts"
    if "expert_popularity" in given and layout.ep == 1:
        why = "every rank has all experts" if deployment.model.moe else f"{deployment.model.name} has none"
        yield f"{at}.expert_popularity: {why}"
    if "network" in plan.cluster.model_fields_set and layout.num_accelerators <= plan.cluster.node.count:
        yield f"fleet cluster {plan.cluster.name}.network: a replica stays within one node"
    if "max_model_len" in given and served.num_rejected == 0:
        yield f"{at}.max_model_len: no request was longer"
