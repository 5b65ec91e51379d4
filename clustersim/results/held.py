"""Replicas that come and go: how many there were, what they held, and what failures and cold starts took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clustersim.metrics import step_integral
from clustersim.records import CUT_OFF, DRAINING, LOST, QUEUED, STARTING, UP, Floats, SpanRecords
from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.units import HOUR_S

#: A replica holds its accelerators in these states, and works in the last three.
HOLDING = (STARTING, UP, DRAINING, CUT_OFF)
WORKING = (UP, DRAINING, CUT_OFF)


@dataclass(frozen=True)
class Held:
    """The replicas of a deployment in a window; its spans, (n,) each, are None where replicas never come or go."""

    num: int
    """Replicas at the start."""
    window_s: tuple[float, float]
    spans: Mapping[str, Floats] | None = None
    """replica, state, start_s, end_s, in order of replica and time; those still open last for ever."""

    def mean(self, *states: int) -> float:
        """Return the mean number of replicas in some states over the window: what is divided by, so never 0."""
        if self.spans is None:
            return float(self.num)
        length_s = max(1e-12, self.window_s[1] - self.window_s[0])
        return max(1e-12, float(self.over(np.array(self.window_s), *states)[0]) / length_s)

    def over(self, edges_s: Floats, *states: int) -> Floats:
        """Return the replica-seconds in some states between consecutive edges (edges - 1,)."""
        if self.spans is None:
            return np.asarray(self.num * np.diff(edges_s))
        mine = np.isin(self.spans["state"], states)
        start, end = (np.clip(self.spans[key][mine], edges_s[0], edges_s[-1]) for key in ("start_s", "end_s"))
        return step_integral(start, end, 1.0, edges_s)

    @property
    def most(self) -> int:
        """The most replicas that held accelerators at once in the window."""
        if self.spans is None:
            return self.num
        mine = np.isin(self.spans["state"], HOLDING)
        start, end = (np.clip(self.spans[key][mine], *self.window_s) for key in ("start_s", "end_s"))
        some = end > start
        times = np.concatenate([end[some], start[some]])
        steps = np.repeat([-1, 1], some.sum())
        return int(np.cumsum(steps[np.lexsort((steps, times))]).max(initial=0))


def held_by(
    plan: DeploymentPlan, first_replica: int, spans: SpanRecords | None, window_s: tuple[float, float]
) -> Held:
    """Return the replicas of a deployment; `spans` are empty where no replica of the scenario comes or goes."""
    if spans is None or not spans.num:
        return Held(plan.deployment.replicas, window_s)
    columns = {name: np.array(spans.column(name), dtype=np.float64) for name in (*spans.FLOATS, *spans.INTS)}
    columns["end_s"][np.isnan(columns["end_s"])] = np.inf
    last = first_replica + plan.max_replicas
    mine = (columns["replica"] >= first_replica) & (columns["replica"] < last)
    columns = {name: column[mine] for name, column in columns.items()}
    order = np.lexsort((columns["start_s"], columns["replica"]))
    return Held(plan.deployment.replicas, window_s, {name: each[order] for name, each in columns.items()})


def fleet_metrics(scenario: Scenario, plan: DeploymentPlan, served: Served, held: Held) -> dict[str, Any]:
    """Return what cold starts, failures and retries came to in the window; {} where no replica comes or goes."""
    if held.spans is None:
        return {}
    edges = np.array(held.window_s)
    per_replica = plan.deployment.parallelism.num_accelerators
    values: dict[str, Any] = {
        "gpu_hours": float(held.over(edges, *HOLDING)[0]) * per_replica / HOUR_S,
        "mean_replicas_on": float(held.over(edges, *WORKING)[0]) / max(1e-12, served.length_s),
        **_cold_starts(held),
    }
    if scenario.failures:
        rows = served.requests
        values |= {
            "availability_frac": _availability(held),
            "retries": int(rows["num_retries"].sum()),
            "lost": int((rows["status"] == LOST).sum()),
            "lost_tokens": int(rows["lost_tokens"].sum()),
        }
    return values


def _cold_starts(held: Held) -> dict[str, Any]:
    """Return how many replicas came up in the window, how long they took, and how long they waited before that.

    The wait is for accelerators; the start itself follows it at once.
    """
    assert held.spans is not None
    replica, state, start, end = (held.spans[key] for key in ("replica", "state", "start_s", "end_s"))
    seconds, waits = [], []
    for index in np.flatnonzero(state == STARTING):
        after, before = index + 1, index - 1
        follows = after < len(state) and replica[after] == replica[index] and start[after] == end[index]
        up = follows and state[after] in (UP, CUT_OFF)
        if not (up and held.window_s[0] <= end[index] <= held.window_s[1]):
            continue
        seconds.append(end[index] - start[index])
        queued = before >= 0 and state[before] == QUEUED and end[before] == start[index]
        waits.append(end[before] - start[before] if queued and replica[before] == replica[index] else 0.0)
    some = bool(seconds)
    return {
        "cold_starts": len(seconds),
        "cold_start_s": float(np.mean(seconds)) if some else None,
        "accelerator_wait_s": float(np.mean(waits)) if some else None,
    }


def _availability(held: Held) -> float | None:
    """Return up / (up + down): down are those cut off, and those queued or starting anew after they died.

    One that died goes straight from up to queued; one that is renewed or scaled away drains before.
    """
    assert held.spans is not None
    replica, state, start, end = (held.spans[key] for key in ("replica", "state", "start_s", "end_s"))
    low, high = held.window_s
    inside = np.clip(end, low, high) - np.clip(start, low, high)
    up = float(inside[np.isin(state, (UP, DRAINING))].sum())
    down = float(inside[state == CUT_OFF].sum())
    died = False
    for index in range(len(state)):
        follows = index > 0 and replica[index] == replica[index - 1] and start[index] == end[index - 1]
        if state[index] not in (QUEUED, STARTING):
            died = False
            continue
        died = follows and (died or state[index - 1] in (UP, CUT_OFF))
        if died:
            down += float(inside[index])
    return up / (up + down) if up + down > 0 else None
