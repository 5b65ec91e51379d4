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
        shed = rows["status"] == SHED
        found["shed"] = int(shed.sum())
        found["shed_frac"] = float(shed[served.arrived].mean()) if served.arrived.any() else None
    if deployment.lora is not None:
        found["adapter_loads"] = int(rows["adapter_loads"].sum())
    return found
