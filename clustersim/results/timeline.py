"""Batch, queue, KV, tokens and power over time, in bins."""

from __future__ import annotations

import numpy as np
import pandas as pd

from clustersim.cost.account import Account
from clustersim.errors import InputError
from clustersim.metrics import Boxes, step_integral
from clustersim.records import Floats
from clustersim.results.energy import Bill
from clustersim.results.held import HOLDING, WORKING, Held
from clustersim.results.served import Served, mean_kv_blocks
from clustersim.scenario.plan import DeploymentPlan

BINS, MAX_BINS = 400, 1_000_000


def edges(end_s: float, bin_s: float) -> Floats:
    """Return the edges of the bins over [0, end_s]."""
    if bin_s <= 0:
        return np.linspace(0.0, max(end_s, 1e-9), BINS + 1)
    if end_s / bin_s > MAX_BINS:
        raise InputError(
            f"timeline_bin makes {end_s / bin_s:,.0f} rows of {end_s:,.0f} s; {MAX_BINS:,} is the most"
        )
    return np.arange(0.0, end_s + bin_s, bin_s)


def timeline(
    plan: DeploymentPlan, served: Served, account: Account, bill: Bill, held: Held, at: Floats
) -> pd.DataFrame:
    """Return one row a bin: means over the bin of what the deployment as a whole did."""
    runs, rows = served.runs, served.requests
    width = np.diff(at)
    start, end = runs["start_s"], runs["end_s"]
    seconds = np.maximum(end - start, 1e-15)
    boxes = Boxes(start, end, at)

    def mean(height: Floats) -> Floats:
        return np.asarray(boxes.integral(height) / width)

    power = np.full(len(start), 0.0)
    if len(account.run):
        count = np.bincount(account.run, minlength=len(start))
        power = np.bincount(account.run, weights=bill.busy_w, minlength=len(start)) / np.maximum(count, 1)
        power = np.where(count > 0, power, bill.busy_w.mean())
    busy = mean(np.ones(len(start)))
    on, paid = (held.over(at, *states) / width for states in (WORKING, HOLDING))
    divisor = np.maximum(on, 1e-12)
    arrivals = np.histogram(rows["arrival_s"], bins=at)[0] / width
    return pd.DataFrame(
        {
            "time_s": at[:-1],
            "deployment": plan.deployment.name,
            "arrivals_per_s": arrivals,
            "queue": step_integral(*served.queued, 1.0, at) / width,
            "batch": mean(runs["batch"]),
            "kv_frac": mean(mean_kv_blocks(runs, plan.memory.engine.block_size))
            / (plan.memory.num_blocks * divisor),
            "output_tokens_per_s": mean(
                (runs["batch"] * runs["num_steps"] + runs["num_first_tokens"]) / seconds
            ),
            "prefill_tokens_per_s": mean(runs["prefill_tokens"] / seconds),
            "busy_frac": busy / divisor,
            "power_w": mean(power) + np.maximum(paid - busy, 0.0) * bill.idle_w,
        }
        | ({} if held.spans is None else {"replicas_on": on})
    )
