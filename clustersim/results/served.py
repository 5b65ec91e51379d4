"""What one deployment did, as columns: the view that all of its metrics are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clustersim.records import FINISHED, REJECTED, Floats, RequestRecords
from clustersim.scenario.plan import DeploymentPlan
from clustersim.workload.workload import Slo, Workload


@dataclass(frozen=True)
class Served:
    """Requests and runs of one deployment (or of several together), and the window that is measured.

    Latencies are of the requests that arrive in the window and finish; throughputs are of what finishes, or is
    generated, in the window.
    """

    requests: Mapping[str, Floats]
    runs: Mapping[str, Floats]
    window_s: tuple[float, float]

    @property
    def length_s(self) -> float:
        """Length of the window."""
        return max(self.window_s[1] - self.window_s[0], 1e-12)

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """Which requests arrive in the window and finish."""
        arrival = self.requests["arrival_s"]
        arrived = (arrival >= self.window_s[0]) & (arrival <= self.window_s[1])
        return np.asarray(arrived & (self.requests["status"] == FINISHED))

    @cached_property
    def num_rejected(self) -> int:
        """Requests that no replica could hold."""
        return int((self.requests["status"] == REJECTED).sum())

    @cached_property
    def latencies(self) -> dict[str, Floats]:
        """Latencies in seconds of every request, nan where they do not exist: ttft, ttfo, tpot, e2el, queue."""
        rows = self.requests
        output = rows["thinking_tokens"] + rows["answer_tokens"]
        with np.errstate(divide="ignore", invalid="ignore"):
            tpot = np.where(output > 1, (rows["finish_s"] - rows["first_token_s"]) / (output - 1), np.nan)
        return {
            "ttft": rows["first_token_s"] - rows["arrival_s"],
            "ttfo": rows["first_answer_s"] - rows["arrival_s"],
            "tpot": tpot,
            "e2el": rows["finish_s"] - rows["arrival_s"],
            "queue": rows["scheduled_s"] - rows["arrival_s"],
        }

    def in_window(self, what: str) -> Floats:
        """Return a latency of the measured requests, those that have it."""
        values = self.latencies[what][self.measured]
        return values[np.isfinite(values)]

    @cached_property
    def overlap(self) -> Floats:
        """The share of each run that lies in the window."""
        start, end = self.runs["start_s"], self.runs["end_s"]
        inside = np.minimum(end, self.window_s[1]) - np.maximum(start, self.window_s[0])
        return np.asarray(np.clip(inside / np.maximum(end - start, 1e-15), 0.0, 1.0))

    @cached_property
    def output_tokens(self) -> float:
        """Tokens generated in the window."""
        runs = self.runs
        return float(((runs["num_steps"] * runs["batch"] + runs["num_first_tokens"]) * self.overlap).sum())

    @cached_property
    def input_tokens(self) -> float:
        """Prompt tokens processed in the window, recomputation after preemption included."""
        return float((self.runs["prefill_tokens"] * self.overlap).sum())

    @cached_property
    def step_gaps(self) -> tuple[Floats, Floats]:
        """Inter-token latencies in seconds and how many tokens saw each: the steps' durations, a run cut in four.

        Within a run the step time rises almost linearly with context; the four quarters take its slope from the
        mean durations of the runs' neighbours in context, which a run of k steps spans only if k is large.
        """
        runs = self.runs
        decoding = (runs["batch"] > 0) & (self.overlap > 0)
        seconds = ((runs["end_s"] - runs["start_s"]) / np.maximum(runs["num_steps"], 1))[decoding]
        tokens = (runs["batch"] * runs["num_steps"] * self.overlap)[decoding]
        return seconds, tokens


def serve(
    records: RequestRecords,
    runs: Mapping[str, Floats],
    plan: DeploymentPlan,
    first_replica: int,
    window_s: tuple[float, float],
) -> Served:
    """Return the view of one deployment."""
    issued = np.isfinite(records.column("arrival_s"))
    mine = issued & (records.column("deployment") == plan.index)
    names = (*records.FLOATS, *records.INTS)
    requests = {name: records.column(name)[mine] for name in names}
    last = first_replica + plan.deployment.replicas
    own = (runs["replica"] >= first_replica) & (runs["replica"] < last)
    return Served(requests, {name: column[own] for name, column in runs.items()}, window_s)


def limits_of(slo: Slo | None) -> dict[str, float]:
    """Return the limits in seconds that a promise names, by latency."""
    if slo is None:
        return {}
    limits = {name: getattr(slo, f"{name}_s") for name in ("ttft", "ttfo", "tpot", "e2el")}
    return {name: limit for name, limit in limits.items() if limit is not None}


def good(served: Served, workloads: list[Workload]) -> NDArray[np.bool_] | None:
    """Return which requests keep what their tenant was promised; None where nobody was promised anything."""
    rows = served.requests
    kept = np.ones(len(rows["arrival_s"]), dtype=bool)
    promised = False
    for index, workload in enumerate(workloads):
        for tenant in range(len(workload.all_tenants)):
            limits = limits_of(workload.slo_of(tenant))
            if not limits:
                continue
            mine = (rows["workload"] == index) & (rows["tenant"] == tenant)
            promised = promised or bool(mine.any())
            for name, limit in limits.items():
                kept &= ~(mine & (served.latencies[name] > limit))
    return kept & (rows["status"] == FINISHED) if promised else None
