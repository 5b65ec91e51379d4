"""What serving a query and training on a token cost, over sizes and lengths of thinking: tables between knots.

Between knots every cost is a power law in size and in thinking; an interval with an end that the SLO or the memory
rules out is ruled out whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clustersim.cost.price import published_prices
from clustersim.economics.power import accelerator_w, host_w
from clustersim.errors import InputError
from clustersim.records import Floats
from clustersim.study.tradeoff.replica import spec_of
from clustersim.study.tradeoff.schema import Bought, TradeoffStudy
from clustersim.study.tradeoff.serving import Carried
from clustersim.training.curve import PerToken, PretrainingCurve
from clustersim.training.layout import Recipe, TrainingCluster
from clustersim.training.run import Pretraining

#: Points between two knots.
_BETWEEN = 8


@dataclass(frozen=True)
class ServingTable:
    """One strategy over sizes and thinking, (sizes, thinking); nan where the SLO cannot be met."""

    tasks_per_s: Floats
    """Of one replica at the SLO's edge."""
    accelerators: Floats
    """Of one replica."""
    busy_w: Floats
    idle_w: Floats
    rate_sd: Floats
    """Standard error of ln(tasks_per_s) from simulation: root mean square over the strategy's cells."""
    tokens_per_task: Floats


@dataclass(frozen=True)
class Surfaces:
    """All costs over a fine grid of sizes (n,) and thinking (t,)."""

    sizes: Floats
    thinking: Floats
    serving: Mapping[str, ServingTable]
    serving_usd_per_accelerator_s: float
    train_accelerators: tuple[int, ...]
    train_usd: Floats
    """Dollars a token, (accelerators, sizes); nan where nothing fits."""
    train_s: Floats
    """Seconds a token, (accelerators, sizes)."""
    train_j: Floats
    """Facility joules a token, (accelerators, sizes)."""
    serving_error: float
    """Standard relative error of step times, the same for all cells."""


def fine(knots: Sequence[float]) -> Floats:
    """Return knots with points between them, equally far in logarithms; the knots are among them."""
    logs = np.log(np.asarray(knots, dtype=np.float64))
    places = np.arange((len(knots) - 1) * _BETWEEN + 1) / _BETWEEN
    return np.asarray(np.exp(np.interp(places, np.arange(len(knots)), logs)))


def surfaces(
    study: TradeoffStudy, carried: Sequence[Carried], tokens: Mapping[int, Sequence[PerToken | None]]
) -> Surfaces:
    """Return the tables of a study from what was simulated and, by number of accelerators, computed for each size."""
    sizes, thinking = fine(study.sizes), fine(study.thinking)
    serving = {
        name: _serving_table(study, [each for each in carried if each.cell.strategy == name])
        for name in study.strategies
    }
    errors = [each.rel_error for each in carried if not each.why_not]
    if not errors:
        why = "; ".join(sorted({each.why_not for each in carried}))
        raise InputError(f"no model of the study meets the SLO on {study.serving.node.name}: {why}. Relax the SLO, "
                         "allow more accelerators a replica, or add smaller sizes")  # fmt: skip
    usd_per_accelerator_s(study.training)
    counts = tuple(study.training.accelerators)

    def trained(name: str) -> Floats:
        rows = [
            [np.nan if each is None else getattr(each, name) for each in tokens[number]] for number in counts
        ]
        return _between(np.array(rows, dtype=np.float64), 1)

    return Surfaces(
        sizes, thinking, serving, usd_per_accelerator_s(study.serving), counts, trained("usd"), trained("duration_s"),
        trained("energy_j"), float(np.mean(errors)),
    )  # fmt: skip


def _serving_table(study: TradeoffStudy, carried: Sequence[Carried]) -> ServingTable:
    known = {(each.cell.size, each.cell.thinking): each for each in carried if not each.why_not}

    def table(name: str) -> Floats:
        knots = np.full((len(study.sizes), len(study.thinking)), np.nan)
        for i, size in enumerate(study.sizes):
            for j, thinking in enumerate(study.thinking):
                if (size, thinking) in known:
                    knots[i, j] = max(float(getattr(known[size, thinking], name)), 1e-9)
        return _between(_between(knots, 0), 1)

    rates = table("tasks_per_s")
    sd = np.sqrt(np.mean([each.rate_sd**2 for each in known.values()])) if known else 0.0
    return ServingTable(
        rates, table("accelerators"), table("busy_w"), table("idle_w"), np.full_like(rates, sd),
        table("tokens_per_task"),
    )  # fmt: skip


def _between(knots: Floats, axis: int) -> Floats:
    """Return values at the points of `fine` along an axis: log-linear, nan where an end is; exact at knots."""
    logs = np.moveaxis(np.log(knots), axis, 0)
    places = np.arange((len(logs) - 1) * _BETWEEN + 1)
    low, share = places // _BETWEEN, (places % _BETWEEN) / _BETWEEN
    high = np.minimum(low + 1, len(logs) - 1)
    share = share.reshape(-1, *[1] * (logs.ndim - 1))
    mixed = np.where(share == 0, logs[low], (1 - share) * logs[low] + share * logs[high])
    return np.asarray(np.moveaxis(np.exp(mixed), 0, axis))


def usd_per_accelerator_s(side: Bought) -> float:
    """Return what an accelerator costs by time, energy included (at rated power where the price leaves it out)."""
    price = side.price.cost(published_prices(side.node.accelerator))
    if price is None:
        raise InputError(
            f"no published price of {side.node.accelerator.name}; give one: price: {{kind: fixed, ...}}"
        )
    if price.includes_energy:
        return price.usd_per_s
    node, one = side.node, np.ones(1)
    device = node.accelerator
    watts = float(accelerator_w(device.idle_w.value, device.tdp_w.value, one, one)[0])
    watts += float(host_w(node.host_idle_w.value, node.host_max_w.value, one)[0]) / node.count
    return price.usd_per_s + watts * side.site.pue.value * side.site.electricity_usd_per_j.value


def train_tokens_cost(study: TradeoffStudy, accelerators: int) -> list[PerToken | None]:
    """Return what a token of pretraining takes at each size on so many accelerators; None where nothing fits."""
    side = study.training
    cluster = TrainingCluster(node=side.node, num_accelerators=accelerators)
    template = Pretraining(
        spec_of(study, study.sizes[0]), 1e13, cluster, side.site, side.price, seq_len=side.seq_len,
        batch_tokens=side.batch_tokens, recipe=Recipe(precision=side.precision, slowdown=side.slowdown),
    )  # fmt: skip
    curve = PretrainingCurve(template, lambda size: spec_of(study, size))
    found: list[PerToken | None] = []
    for size in study.sizes:
        try:
            found.append(curve.at(size))
        except InputError:
            found.append(None)
    return found
