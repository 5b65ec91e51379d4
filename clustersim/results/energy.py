"""Energy, money and carbon of a deployment over the measured window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clustersim.cost.account import Account
from clustersim.cost.price import published_prices
from clustersim.economics.power import accelerator_w, host_w
from clustersim.economics.prices import Cost
from clustersim.records import Floats
from clustersim.results.held import HOLDING, Held
from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan


@dataclass(frozen=True)
class Bill:
    """What the window took. Dollars are None where no price is known."""

    it_j: float
    """Accelerators and their share of hosts and network ports, idle time included."""
    facility_j: float
    """The same with cooling and distribution (PUE)."""
    usd: float | None
    gco2e: float
    water_l: float | None
    busy_w: Floats
    """Power of one replica at each point of the account."""
    idle_w: float
    """Power of one replica that does nothing."""
    price: Cost | None


def bill(plan: DeploymentPlan, served: Served, account: Account, held: Held) -> Bill:
    """Return the bill of all replicas: sampled power while busy, idle power otherwise while they hold accelerators."""
    node, deployment = plan.cluster.node, plan.deployment
    device = node.accelerator
    per_replica = deployment.parallelism.num_accelerators
    chips = accelerator_w(device.idle_w.value, device.tdp_w.value, account.memory_use, account.compute_use)
    share = per_replica / node.count
    idle_w = per_replica * device.idle_w.value + share * node.host_idle_w.value
    ones = np.ones_like(chips)
    busy_w = per_replica * chips + share * host_w(node.host_idle_w.value, node.host_max_w.value, ones)
    runs = served.runs
    busy_s = float(((runs["end_s"] - runs["start_s"]) * served.overlap).sum())
    inside = served.overlap[account.run]
    mean_w = float(np.average(busy_w, weights=inside)) if inside.any() else idle_w
    total_s = served.length_s * held.mean(*HOLDING)
    it_j = mean_w * busy_s + idle_w * max(0.0, total_s - busy_s)
    site = plan.site
    facility_j = it_j * site.pue.value
    price = price_of(plan)
    usd = None
    if price is not None:
        usd = price.usd_per_s * per_replica * total_s
        if not price.includes_energy:
            usd += facility_j * site.electricity_usd_per_j.value
    water = site.water_l_per_j
    return Bill(
        it_j, facility_j, usd, facility_j * site.carbon_g_per_j.value, water.value * it_j if water else None,
        busy_w, idle_w, price,
    )  # fmt: skip


def price_of(plan: DeploymentPlan) -> Cost | None:
    """Return the cost of one accelerator by time."""
    return plan.cluster.price.cost(published_prices(plan.cluster.node.accelerator))
