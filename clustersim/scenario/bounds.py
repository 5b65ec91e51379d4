"""Runs that would never end, or that no machine could hold: found before they begin."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from clustersim.scenario.schema import Scenario
from clustersim.workload.arrivals import Arrivals
from clustersim.workload.arrivals.all_at_once import AllAtOnce
from clustersim.workload.arrivals.closed_loop import ClosedLoop
from clustersim.workload.arrivals.rate_curve import RateCurve
from clustersim.workload.arrivals.trace import TraceArrivals
from clustersim.workload.generate import MAX_REQUESTS
from clustersim.workload.workload import Workload
from clustersim.yaml_file import Key

#: A replica and a user are objects of some kB.
MAX_REPLICAS, MAX_USERS = 1_000_000, 10_000_000
MAX_BINS = 1_000_000


def bound_problems(scenario: Scenario) -> Iterator[tuple[Key, str]]:
    """Yield what makes a scenario too large to run, or endless."""
    horizon_s = scenario.horizon_s
    if horizon_s is not None and math.isinf(horizon_s):
        yield ("horizon",), "must be finite; leave it out to run as long as the workloads last"
        return
    if sum(deployment.replicas for deployment in scenario.deployments) > MAX_REPLICAS:
        yield (
            ("deployments",),
            f"have more than {MAX_REPLICAS:,} replicas in all, which is more than can be simulated",
        )
    bin_s = scenario.outputs.timeline_bin_s
    if bin_s > 0 and horizon_s is not None and horizon_s / bin_s > MAX_BINS:
        yield (
            ("outputs", "timeline_bin"),
            f"makes {horizon_s / bin_s:,.0f} rows; use one of {horizon_s / MAX_BINS:g} s or more",
        )
    for index, workload in enumerate(scenario.workloads):
        yield from _workload(("workloads", index), workload, horizon_s)


def _workload(key: Key, workload: Workload, horizon_s: float | None) -> Iterator[tuple[Key, str]]:
    loop, most = workload.closed_loop, workload.num_requests
    if most is not None and most > MAX_REQUESTS:
        yield (*key, "num_requests"), f"{most:,} is more than can be simulated, {MAX_REQUESTS:,}"
    elif loop and most is None and horizon_s is None and workload.trace is None:
        yield key, "a closed loop never ends: give it num_requests, or the scenario a horizon"
    if loop and loop.concurrency > MAX_USERS:
        yield (
            (*key, "arrivals", "concurrency"),
            f"{loop.concurrency:,} is more than can be simulated, {MAX_USERS:,}",
        )
    for name, arrivals in _open(workload):
        num = min((n for n in (most, getattr(arrivals, "num", None)) if n is not None), default=None)
        if num is None and isinstance(arrivals, AllAtOnce):
            yield (*key, *name), "all_at_once needs `num`, or `num_requests` on its workload"
        elif num is None and horizon_s is None and workload.trace is None:
            yield (
                (*key, *name),
                f"{arrivals.kind} arrivals never end: give the workload `num_requests` or the scenario a `horizon`",
            )
        expected = _rate_per_s(arrivals) * workload.rate_scale * (horizon_s or 0.0)
        if min(expected, math.inf if num is None else num) > MAX_REQUESTS:
            yield (
                (*key, *name),
                f"makes {expected:,.0f} requests until the horizon; {MAX_REQUESTS:,} can be simulated: "
                "lower the rate or the horizon",
            )


def _rate_per_s(arrivals: Arrivals) -> float:
    """Return the mean rate of open arrivals, 0 where they have none."""
    if isinstance(arrivals, RateCurve):
        curve = arrivals.curve()
        return float(np.average((curve.left + curve.right) / 2, weights=np.diff(curve.edges_s)))
    return float(getattr(arrivals, "rate_per_s", 0.0) or getattr(arrivals, "mean_rate_per_s", 0.0))


def _open(workload: Workload) -> Iterator[tuple[Key, Arrivals]]:
    """Yield each open arrival process, and where it stands in the workload."""
    own = [(("tenants", i, "arrivals"), each.arrivals) for i, each in enumerate(workload.tenants)]
    for key, arrivals in [(("arrivals",), workload.arrivals), *own]:
        if arrivals is not None and not isinstance(arrivals, ClosedLoop | TraceArrivals):
            yield key, arrivals
