"""What a deployment's admission policy turned away, and its adapters loaded: absent where it has neither."""

from __future__ import annotations

from typing import Any

from clustersim.records import SHED
from clustersim.results.served import Served
from clustersim.scenario.schema import Deployment


def sheds(deployment: Deployment) -> bool:
    """Return whether a deployment may turn requests away."""
    return deployment.admission.kind != "accept_all"


def admission_metrics(deployment: Deployment, served: Served) -> dict[str, Any]:
    """Return `shed`, `shed_frac` and `adapter_loads` of a deployment, each where it may have some."""
    found: dict[str, Any] = {}
    rows = served.requests
    if sheds(deployment):
        found |= shed_metrics(served)
    if deployment.lora is not None:
        found["adapter_loads"] = int(rows["adapter_loads"].sum())
    return found


def shed_metrics(served: Served) -> dict[str, Any]:
    """Return how many requests were turned away, in the window or not, and the share of those that arrived in it."""
    shed = served.requests["status"] == SHED
    arrived = served.arrived
    return {"shed": int(shed.sum()), "shed_frac": float(shed[arrived].mean()) if arrived.any() else None}
