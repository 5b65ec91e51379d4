"""Is a deployment keeping up? Utilisation against what it could do at best, and whether its queue grows.

Utilisation is offered load over capacity: what all replicas would finish a second with their batches as full as
slots and KV allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clustersim.metrics import step_integral
from clustersim.results.capacity import capacity_per_s
from clustersim.results.held import WORKING, Held
from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan

Regime = Literal["STABLE", "NEAR_SATURATION", "OVERLOADED"]
RULE = (
    "OVERLOADED: the queue is never empty in the last quarter of the window and is, on average, over 1.2 times as "
    "long as in the second quarter and over 1 % of the requests that arrived; for open arrivals only. Also where "
    "nothing that arrived was served. "
    "NEAR_SATURATION: utilisation over 0.85, or requests queue for slots or KV over 10 % of the window. "
    "STABLE: neither."
)


@dataclass(frozen=True)
class Load:
    """How loaded a deployment was."""

    regime: Regime
    utilisation: float
    capacity_per_s: float
    """Requests a second that the deployment could finish at best."""
    queue_grew: bool
    queued_frac: float
    """Share of the window in which requests waited for more than the step in progress."""


def load_of(plan: DeploymentPlan, served: Served, held: Held, is_open: bool) -> Load:
    """Return the regime of a deployment by RULE; `is_open` says whether requests arrive whatever it does."""
    replicas = held.mean(*WORKING)
    capacity = capacity_per_s(plan, served, replicas)
    rows = served.requests
    start, end = served.window_s
    arrived = (rows["arrival_s"] >= start) & (rows["arrival_s"] < end) & np.isfinite(rows["scheduled_s"])
    rate = arrived.sum() / served.length_s
    use = float(rate / capacity) if capacity > 0 else 0.0
    edges = np.linspace(start, end, 41)
    queue = step_integral(*served.queued, 1.0, edges) / (served.length_s / 40)
    second, last = queue[10:20], queue[30:]
    grew = bool(
        is_open
        and last.min() > 0.5
        and last.mean() > 1.2 * second.mean()
        and last.mean() > 0.01 * arrived.sum()
    )
    runs = served.runs
    blocked = (runs["num_waiting"] > 0) & (runs["prefill_tokens"] == 0)
    busy = float(((runs["end_s"] - runs["start_s"]) * served.overlap * blocked).sum())
    queued = busy / (served.length_s * replicas)
    regime: Regime = "STABLE"
    came = served.arrived
    if grew or (came.any() and not served.measured.any()):
        regime = "OVERLOADED"
    elif use > 0.85 or queued > 0.1:
        regime = "NEAR_SATURATION"
    return Load(regime, use, capacity, grew, queued)
