"""Scale fleets until they are equal in cost, power or accelerators: whole replicas, on as many nodes as hold them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from clustersim.errors import InputError
from clustersim.results.energy import price_of
from clustersim.scenario.plan import DeploymentPlan, plan
from clustersim.scenario.schema import Scenario
from clustersim.study.compare.entries import Entry, refuse_equal
from clustersim.units import parse, si

Equal = Literal["cost", "power", "gpus"]
#: Imbalance beyond which a comparison at equal cost, power or GPUs is not one.
TOLERANCE = 0.05


@dataclass(frozen=True)
class Share:
    """What a scenario's fleet has after scaling."""

    letter: str
    replicas: Mapping[str, int]
    """By deployment."""
    amount: float
    """USD/s, W or accelerators."""
    imbalance: float
    """amount / target - 1."""


@dataclass(frozen=True)
class Balance:
    """How equal the fleets became."""

    equal: Equal
    target: float
    """In USD/s, W or accelerators."""
    budget: str
    """As it was given; "" for what the first scenario has."""
    shares: Sequence[Share]

    @property
    def unequal(self) -> list[Share]:
        """Return the shares that whole replicas leave further from the target than TOLERANCE."""
        return [share for share in self.shares if abs(share.imbalance) > TOLERANCE]


def usd_per_s(plan: DeploymentPlan) -> float:
    """Return what one replica costs a second, at rated power where electricity is not in the price.

    Raises InputError where no price is known.
    """
    price = price_of(plan)
    if price is None:
        device = plan.cluster.node.accelerator.name
        raise InputError(
            f'no price of {device} is known, so cost cannot be made equal: give cluster "{plan.cluster.name}" one, '
            "e.g. price: {kind: fixed, rate: 2 USD/h}"
        )
    usd = price.usd_per_s * plan.deployment.parallelism.num_accelerators
    return usd if price.includes_energy else usd + watts(plan) * plan.site.electricity_usd_per_j.value


def watts(plan: DeploymentPlan) -> float:
    """Return the power one replica must be provisioned with at the meter: rated node power times PUE."""
    node = plan.cluster.node
    return plan.deployment.parallelism.num_accelerators / node.count * node.max_w * plan.site.pue.value


def accelerators(plan: DeploymentPlan) -> float:
    """Return the accelerators of one replica."""
    return float(plan.deployment.parallelism.num_accelerators)


_AMOUNTS: Mapping[Equal, Callable[[DeploymentPlan], float]] = MappingProxyType(
    {"cost": usd_per_s, "power": watts, "gpus": accelerators}
)
_UNITS: Mapping[Equal, str] = MappingProxyType({"cost": "USD/s", "power": "W", "gpus": "1"})
_DOLLARS = re.compile(r"^\$?\s*([\d.,]+(?:e\d+)?)\s*([kMBG]?)\s*(?:\$|USD)?\s*/\s*(\w+)$")
_GPUS = re.compile(r"^([\d,]+)\s*(?:gpus?|accelerators?)?$", re.IGNORECASE)


def parse_budget(text: str, asked: Equal | None) -> tuple[Equal, float]:
    """Return what a budget is of, and how much: "10 M$/yr" in USD/s, "20 MW" in W, "512 gpus".

    Raises InputError for another form, and for one that is not what is to be equal.
    """
    kind, amount = _budget(text)
    if asked is not None and kind != asked:
        raise InputError(f"--budget {text}: is {_SAYS[kind]}, but --equal {asked} was asked for")
    if amount <= 0:
        raise InputError(f"--budget {text}: must be above zero")
    return kind, amount


_SAYS: Mapping[Equal, str] = MappingProxyType(
    {"cost": "money by time", "power": "a power", "gpus": "a number"}
)


def _budget(text: str) -> tuple[Equal, float]:
    plain = text.strip()
    if gpus := _GPUS.match(plain):
        return "gpus", float(gpus[1].replace(",", ""))
    try:
        if "$" in plain or "USD" in plain:
            found = _DOLLARS.match(plain)
            if found is None:
                raise ValueError(f'"{text}" is not money by time')
            scale = {"B": "G"}.get(found[2], found[2])
            time = {"yr": "year"}.get(found[3], found[3])
            return "cost", parse(f"{found[1].replace(',', '')} {scale}USD/{time}", "USD/s")
        return "power", parse(plain, "W")
    except ValueError as error:
        raise InputError(f'--budget: {error}; write it like "10 M$/yr", "20 MW" or "512 gpus"') from None


def equalise(
    entries: Sequence[Entry], equal: Equal | None, budget: str | None
) -> tuple[list[Entry], Balance]:
    """Return the entries scaled to a budget or to what the first has, and how equal they are.

    Deployments of a scenario keep their proportions as far as whole replicas allow. To match the first scenario the
    nearest number is taken; a budget is never exceeded. Raises InputError where one replica is already too much.
    """
    if budget is not None:
        kind, target = parse_budget(budget, equal)
    elif equal is not None:
        kind, target = equal, _amount(plan(entries[0].scenario), equal)
    else:
        raise InputError("say what is to be equal")
    scaled = [
        _trimmed(entry) if budget is None and entry is entries[0] else _scaled(entry, kind, target, budget)
        for entry in entries
    ]
    shares = [_share(entry, kind, target) for entry in scaled]
    refuse_equal(scaled, f" once {kind} {'is' if kind != 'gpus' else 'are'} equal")
    return scaled, Balance(kind, target, budget or "", shares)


def _amount(plans: Sequence[DeploymentPlan], kind: Equal) -> float:
    return sum(_AMOUNTS[kind](each) * each.deployment.replicas for each in plans)


def _share(entry: Entry, kind: Equal, target: float) -> Share:
    plans = plan(entry.scenario)
    amount = _amount(plans, kind)
    replicas = {each.deployment.name: each.deployment.replicas for each in plans}
    return Share(entry.letter, replicas, amount, amount / target - 1)


def _trimmed(entry: Entry) -> Entry:
    """Return an entry without nodes that hold nothing, as all that are scaled are."""
    replicas = [deployment.replicas for deployment in entry.scenario.deployments]
    return replace(entry, scenario=with_replicas(entry.scenario, replicas))


def _scaled(entry: Entry, kind: Equal, target: float, budget: str | None) -> Entry:
    plans = plan(entry.scenario)
    units = [_AMOUNTS[kind](each) for each in plans]
    start = [each.deployment.replicas for each in plans]
    below, above = _around(start, units, target)
    least = sum(units)
    total = {side: sum(n * unit for n, unit in zip(counts, units, strict=True)) for side, counts in
             (("below", below), ("above", above))}  # fmt: skip
    exact = budget is not None
    if total["below"] > target * (1 + 1e-9) and (exact or least > 2 * target):
        raise InputError(
            f'{entry.letter} ("{entry.name}"): one replica of each deployment takes {text(least, kind)}, more than '
            f"the {text(target, kind)} that {'the budget allows' if exact else 'the first scenario has'}; "
            f"{'raise the budget' if exact else 'give the first more replicas, or a --budget for all'}"
        )
    nearer = abs(total["above"] - target) < abs(total["below"] - target)
    return replace(entry, scenario=with_replicas(entry.scenario, above if nearer and not exact else below))


def _around(start: Sequence[int], units: Sequence[float], target: float) -> tuple[list[int], list[int]]:
    """Return the largest fleet in the proportions of `start` that costs at most `target`, and the next one up."""

    def fleet(factor: float) -> list[int]:
        return [max(1, int(factor * count + 0.5)) for count in start]

    def total(factor: float) -> float:
        return sum(count * unit for count, unit in zip(fleet(factor), units, strict=True))

    low, high = 0.0, 1.0
    limit = target * (1 + 1e-9)
    while total(high) <= limit:
        low, high = high, high * 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) <= limit else (low, middle)
    return fleet(low), fleet(high)


def with_replicas(scenario: Scenario, replicas: Sequence[int]) -> Scenario:
    """Return a scenario with other numbers of replicas, and just as many nodes in their clusters as hold them."""
    needed: Counter[str] = Counter()
    changes: list[tuple[str, object]] = []
    for index, (deployment, count) in enumerate(zip(scenario.deployments, replicas, strict=True)):
        needed[deployment.on] += count * deployment.parallelism.num_accelerators
        changes.append((f"deployments.{index}.replicas", count))
    for site, fleet in enumerate(scenario.fleet):
        for index, cluster in enumerate(fleet.clusters):
            if needed[cluster.name]:
                nodes = -(-needed[cluster.name] // cluster.node.count)
                changes.append((f"fleet.{site}.clusters.{index}.count", nodes))
    return scenario.with_(*changes)


def text(amount: float, kind: Equal) -> str:
    """Return an amount for people: "$1.00/s", "20.1 MW", "64 accelerators"."""
    if kind == "cost":
        return f"${amount:,.3g}/s"
    return si(amount, "W") if kind == "power" else f"{amount:,.0f} accelerators"
