"""What a deployment's KV caches had of the input: absent where inputs have nothing in common that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clustersim.records import FINISHED, LoadRecords, RequestRecords
from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan

#: (from, to) -> bytes that were written; see simulation.offload.
Stored = Mapping[tuple[str, str], float]
#: Times are the same if they differ by less than this share.
_SAME = 1e-12


def cache_metrics(
    plan: DeploymentPlan, served: Served, records: RequestRecords, loads: LoadRecords, stored: Stored
) -> dict[str, Any]:
    """Return `prefix_hit_frac` and `tier_hits` of the requests measured, and `kv_offload` where there are tiers.

    Measured are requests that arrive in the window, those of tasks one by one: what the tasks that arrive in it find is
    another figure (`cached_frac`), for their later calls may come after it, and calls of earlier tasks come in it. Of a
    request that was tried again, the first time that it was scheduled counts.
    """
    deployment, rows = plan.deployment, served.requests
    known = (rows["prefix"] >= 0).any() or rows["cached_tokens"].any()
    if deployment.prefill_by is not None or not deployment.prefix_caching or not known:
        return {}
    tokens = float(rows["input_tokens"][served.measured].sum())
    found = int(rows["cached_tokens"][served.measured].sum())
    tiers = [tier.where for tier in deployment.kv_tiers]
    used = _used(plan, served, records, loads)
    hits = {"gpu": found - int(used.sum()), **dict(zip(tiers, used.tolist(), strict=True))}
    values: dict[str, Any] = {"prefix_hit_frac": found / tokens if tokens else None, "tier_hits": hits}
    return values | ({"kv_offload": _moved(plan, loads, stored, served.window_s)} if tiers else {})


def _used(
    plan: DeploymentPlan, served: Served, records: RequestRecords, loads: LoadRecords
) -> np.ndarray[Any, Any]:
    """Return the tokens by tier that measured requests had from there when they were first scheduled."""
    request = loads.column("request")
    arrival, scheduled = records.column("arrival_s")[request], records.column("scheduled_s")[request]
    first_token = records.column("first_token_s")[request]
    start, end = served.window_s
    mine = (loads.column("deployment") == plan.index) & (arrival >= start) & (arrival <= end)
    mine &= loads.column("end_s") <= scheduled * (1 + _SAME)
    prefills = records.column("deployment")[request] != plan.index  # for another deployment
    mine &= np.where(prefills, np.isfinite(first_token), records.column("status")[request] == FINISHED)
    count = len(plan.deployment.kv_tiers)
    used = np.bincount(loads.column("tier")[mine], loads.column("used_tokens")[mine], count)
    return used.astype(np.int64)


def _moved(
    plan: DeploymentPlan, loads: LoadRecords, stored: Stored, window_s: tuple[float, float]
) -> dict[str, Any]:
    """Return bytes and seconds of the loads that end in the window, and the bytes written in the whole run."""
    end = loads.column("end_s")
    mine = (loads.column("deployment") == plan.index) & (end > window_s[0]) & (end <= window_s[1])
    size = np.bincount(loads.column("tier")[mine], loads.column("bytes")[mine], len(plan.deployment.kv_tiers))
    names = [tier.where for tier in plan.deployment.kv_tiers]
    seconds = (end - loads.column("start_s"))[mine]
    return {
        "loaded_bytes": dict(zip(names, size.tolist(), strict=True)),
        "stored_bytes": {
            name: sum(size for (_, target), size in stored.items() if target == name) for name in names
        },
        "p50_s": float(np.quantile(seconds, 0.5)) if len(seconds) else None,
        "p99_s": float(np.quantile(seconds, 0.99)) if len(seconds) else None,
    }


def unused_tiers(plans: Sequence[DeploymentPlan], stored: Sequence[Stored]) -> list[str]:
    """Return the tiers that nothing was ever written to, in words."""
    return [
        f"deployments.{plan.deployment.name}.kv_tiers: nothing was written to {tier.where}"
        for plan, sizes in zip(plans, stored, strict=True)
        for tier in plan.deployment.kv_tiers
        if not any(target == tier.where for _, target in sizes)
    ]
