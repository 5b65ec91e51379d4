"""What each request took of the replicas that served it: busy seconds, shared among those in a step.

The time that a step takes beyond a decode step of its batch belongs to the tokens it prefills, each alike; the rest to
the sequences that decode, each alike. Shares of all requests add up to the time that replicas were busy, so that
dollars and joules, idle time included, can be dealt out in proportion.
"""

from __future__ import annotations

import numpy as np

from clustersim.records import Floats
from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan


def busy_seconds(plan: DeploymentPlan, served: Served) -> Floats:
    """Return the busy seconds (requests,) of one replica that each request of a deployment took."""
    rows, runs = served.requests, served.runs
    taken = np.zeros(len(rows["arrival_s"]))
    for replica in np.unique(runs["replica"]):
        mine, own = rows["replica"] == replica, runs["replica"] == replica
        mine &= np.isfinite(rows["scheduled_s"])
        if mine.any():
            requests = {name: column[mine] for name, column in rows.items()}
            taken[mine] = _of_replica(plan, requests, {name: column[own] for name, column in runs.items()})
    return taken


def _of_replica(plan: DeploymentPlan, rows: dict[str, Floats], runs: dict[str, Floats]) -> Floats:
    seconds = runs["end_s"] - runs["start_s"]
    batch, tokens = runs["batch"], runs["prefill_tokens"]
    decode_s = np.where(batch > 0, seconds, 0.0)
    for index in np.flatnonzero((tokens > 0) & (batch > 0)):
        size = int(batch[index])
        alone = plan.step_time.decode(size).total(int(runs["context_tokens"][index]), size, 1)
        decode_s[index] = min(seconds[index], alone)
    at = np.stack([runs["start_s"], runs["end_s"]], axis=1).ravel()

    def until(amount: Floats, time: Floats) -> Floats:
        """Return the sum of `amount` (runs,) over the runs that ended by each time, nothing between runs."""
        ends = np.cumsum(amount)
        return np.asarray(np.interp(time, at, np.stack([ends - amount, ends], axis=1).ravel()))

    first = np.where(np.isfinite(rows["first_token_s"]), rows["first_token_s"], rows["finish_s"])
    each = until(decode_s / np.maximum(batch, 1), rows["finish_s"]) - until(
        decode_s / np.maximum(batch, 1), first
    )
    prefill_s = until(seconds - decode_s, first) - until(seconds - decode_s, rows["scheduled_s"])
    computed = until(tokens, first) - until(tokens, rows["scheduled_s"])
    new = rows["input_tokens"] - rows["cached_tokens"]
    share = np.minimum(new / np.maximum(computed, 1e-12), 1.0)
    # Preemption and what is computed anew after it belong to nobody in particular: all are scaled alike.
    taken: Floats = each + share * prefill_s
    return np.asarray(taken * (seconds.sum() / max(taken.sum(), 1e-12)))
