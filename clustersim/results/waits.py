"""What requests wait for in the queue."""

from __future__ import annotations

import numpy as np

from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan


def adapter_wait_frac(plan: DeploymentPlan, served: Served) -> float | None:
    """Return the share of the time waited in the queue in which nothing was short but slots for adapters.

    A run counts that leaves a place in the batch, budget in its steps, and KV for the longest request, while requests
    wait from its start: those were passed over for want of an adapter's slot. None without adapters or waits.
    """
    deployment, runs = plan.deployment, served.runs
    if deployment.lora is None or not (served.requests["adapter"] >= 0).any():
        return None
    layout, scheduler = deployment.parallelism, deployment.scheduler
    waited = runs["num_waiting"] * (runs["end_s"] - runs["start_s"]) * served.overlap
    if not waited.any():
        return None
    tokens = sum(served.requests[name] for name in ("input_tokens", "thinking_tokens", "answer_tokens"))
    longest = -(-float(np.max(tokens)) // plan.memory.engine.block_size)
    budget = scheduler.max_step_tokens
    slot = (
        runs["batch"] + runs["num_prefills"] + runs["num_stalled"]
        < scheduler.max_num_seqs * layout.attention_dp
    )
    room = plan.memory.num_blocks - runs["kv_blocks"] >= longest * layout.attention_dp
    idle = (
        runs["prefill_tokens"] == 0
        if budget is None
        else runs["batch"] + runs["prefill_tokens"] < budget * layout.attention_dp * layout.pp
    )
    return float(waited[slot & room & idle].sum() / waited.sum())
