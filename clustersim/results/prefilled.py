"""Disaggregated deployments: what the one that prefills did, and what its KV transfers took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clustersim.records import FINISHED, REJECTED, SHED, Floats, TransferRecords
from clustersim.scenario.plan import DeploymentPlan


def decoded_by(plans: list[DeploymentPlan], prefill: DeploymentPlan) -> list[int]:
    """Return the deployments whose prompts a deployment prefills."""
    name = prefill.deployment.name
    return [plan.index for plan in plans if plan.deployment.prefill_by == name]


def as_prompts(requests: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return requests as the deployment sees them that prefills for others: each is one output token long.

    Those that got their first token are finished for it.
    """
    got = np.isfinite(requests["first_token_s"])
    refused = np.isin(requests["status"], (REJECTED, SHED))
    return {
        **requests,
        "thinking_tokens": np.zeros_like(requests["thinking_tokens"]),
        "answer_tokens": np.ones_like(requests["answer_tokens"]),
        "first_answer_s": requests["first_token_s"],
        "finish_s": requests["first_token_s"],
        "status": np.where(got & ~refused, FINISHED, np.where(refused, requests["status"], 0)),
        "num_preemptions": np.zeros_like(requests["num_preemptions"]),
    }


def transfer_metrics(
    transfers: TransferRecords, first_replica: int, num_replicas: int, window_s: tuple[float, float]
) -> dict[str, Any]:
    """Return what KV transfers to a deployment took in the window; nothing where there were none."""
    target, end = transfers.column("target"), transfers.column("end_s")
    mine = (target >= first_replica) & (target < first_replica + num_replicas)
    mine &= (end > window_s[0]) & (end <= window_s[1])
    if not mine.any():
        return {}
    seconds = (end - transfers.column("start_s"))[mine]
    return {
        "kv_transfer": {
            "bytes": float(transfers.column("bytes")[mine].sum()),
            "p50_s": float(np.quantile(seconds, 0.5)),
            "p99_s": float(np.quantile(seconds, 0.99)),
        }
    }
