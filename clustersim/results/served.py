"""What one deployment did, as columns: the view that all of its metrics are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.curve import totals
from clustersim.records import FINISHED, REJECTED, Floats, RequestRecords
from clustersim.results.prefilled import as_prompts, decoded_by
from clustersim.results.stalls import stalled_gaps
from clustersim.scenario.plan import DeploymentPlan
from clustersim.workload.workload import Slo, Workload

#: Steps of a run are taken as equal while its context grows by less than this share.
_GROWTH = 0.05


@dataclass(frozen=True)
class Served:
    """Requests and runs of one deployment (or of several together), and the window that is measured.

    Latencies are of the requests that arrive in the window and finish; throughputs are of what finishes, or is
    generated, in the window.
    """

    requests: Mapping[str, Floats]
    runs: Mapping[str, Floats]
    slices: Mapping[str, Floats]
    """Runs, cut where steps of one run differ: start_s, end_s, num_steps, batch."""
    window_s: tuple[float, float]
    prefills: bool = False
    """Whether this deployment prefills for another, whose requests these are."""

    @property
    def length_s(self) -> float:
        """Length of the window."""
        return max(self.window_s[1] - self.window_s[0], 1e-12)

    @cached_property
    def arrived(self) -> NDArray[np.bool_]:
        """Which requests arrive in the window."""
        arrival = self.requests["arrival_s"]
        return np.asarray((arrival >= self.window_s[0]) & (arrival <= self.window_s[1]))

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """Which requests arrive in the window and finish."""
        return np.asarray(self.arrived & (self.requests["status"] == FINISHED))

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
            "queue": rows["scheduled_s"] - rows["entered_s"],
        }

    @cached_property
    def queued(self) -> tuple[Floats, Floats]:
        """When each request joined the scheduler's queue and when it left it; none for one that never did."""
        rows = self.requests
        taken = np.isfinite(rows["scheduled_s"])
        return rows["entered_s"][taken], rows["scheduled_s"][taken]

    def in_window(self, what: str) -> Floats:
        """Return a latency of the measured requests, those that have it."""
        values = self.latencies[what][self.measured]
        return values[np.isfinite(values)]

    @cached_property
    def overlap(self) -> Floats:
        """The share of each run that lies in the window."""
        return _overlap(self.runs, self.window_s)

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
        """Inter-token latencies in seconds and how many tokens saw each: the mean steps of the slices of all runs."""
        slices = self.slices
        tokens = slices["batch"] * slices["num_steps"] * _overlap(slices, self.window_s)
        seconds = (slices["end_s"] - slices["start_s"]) / np.maximum(slices["num_steps"], 1)
        seconds, tokens = seconds[tokens > 0], tokens[tokens > 0]
        long_s, times = stalled_gaps(self.runs, self.window_s)
        if not len(long_s):
            return seconds, tokens
        tokens = tokens * max(0.0, 1 - times.sum() / max(tokens.sum(), 1.0))  # the others had no such gap
        return np.append(seconds, long_s), np.append(tokens, times)


def _overlap(runs: Mapping[str, Floats], window_s: tuple[float, float]) -> Floats:
    start, end = runs["start_s"], runs["end_s"]
    inside = np.minimum(end, window_s[1]) - np.maximum(start, window_s[0])
    return np.asarray(np.clip(inside / np.maximum(end - start, 1e-15), 0.0, 1.0))


def _slices(runs: Mapping[str, Floats], plan: DeploymentPlan) -> dict[str, Floats]:
    """Return start_s, end_s, num_steps and batch of runs, those in which the context grows cut in four."""
    grows = (runs["num_steps"] >= 8) & (runs["num_steps"] * runs["batch"] > _GROWTH * runs["context_tokens"])
    start, end, batch = (runs[name][grows] for name in ("start_s", "end_s", "batch"))
    steps, context, size = (
        runs[name][grows].astype(np.int64) for name in ("num_steps", "context_tokens", "batch")
    )
    ends = [steps * quarter // 4 for quarter in range(5)]
    sizes, which = np.unique(size, return_inverse=True)
    curves = [plan.step_time.decode(each) for each in sizes.tolist()]
    times = [start, *(start + totals(curves, which, context, size, done) for done in ends[1:-1]), end]
    cut = {
        "start_s": times[:-1], "end_s": times[1:], "batch": [batch] * 4,
        "num_steps": [np.asarray(after - before, dtype=np.float64) for before, after in pairwise(ends)],
    }  # fmt: skip
    # A run's quarters follow one another, as the runs do.
    return {
        name: np.concatenate([runs[name][~grows], np.stack(four, axis=1).ravel()])
        for name, four in cut.items()
    }


def mean_kv_blocks(runs: Mapping[str, Floats], block_size: int) -> Floats:
    """Return the KV blocks held on average in each run, in which decoding adds batch / block_size a step."""
    return np.asarray(runs["kv_blocks"] - runs["batch"] * (runs["num_steps"] - 1) / (2 * block_size))


def serve(
    records: RequestRecords,
    runs: Mapping[str, Floats],
    plans: list[DeploymentPlan],
    plan: DeploymentPlan,
    first_replica: int,
    window_s: tuple[float, float],
) -> Served:
    """Return the view of one deployment."""
    issued = np.isfinite(records.column("arrival_s"))
    decoders = decoded_by(plans, plan)
    mine = issued & np.isin(records.column("deployment"), decoders or [plan.index])
    requests = _rows({name: records.column(name) for name in (*records.FLOATS, *records.INTS)}, mine)
    last = first_replica + plan.max_replicas
    mine_runs = _rows(runs, (runs["replica"] >= first_replica) & (runs["replica"] < last))
    if decoders:
        requests = as_prompts(requests)
    return Served(requests, mine_runs, _slices(mine_runs, plan), window_s, bool(decoders))


def _rows(columns: Mapping[str, NDArray[Any]], mine: NDArray[np.bool_]) -> dict[str, Floats]:
    """Return the rows of columns that are `mine`: where all are, as views."""
    kept = slice(None) if mine.all() else mine
    return {name: column[kept] for name, column in columns.items()}


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
            if workload.tasks is not None:  # promises about the whole are kept or broken by tasks
                limits = {name: limit for name, limit in limits.items() if name in ("ttft", "tpot")}
            if not limits:
                continue
            mine = (rows["workload"] == index) & (rows["tenant"] == tenant)
            promised = promised or bool(mine.any())
            for name, limit in limits.items():
                kept &= ~(mine & (served.latencies[name] > limit))
    return kept & (rows["status"] == FINISHED) if promised else None
