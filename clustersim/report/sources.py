"""Every figure that a deployment's numbers rest on, with its evidence and source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from clustersim.cost.phases import phases
from clustersim.hardware.figure import Figure
from clustersim.hardware.link import Link
from clustersim.kinds import Value
from clustersim.models.ops import COLLECTIVES, Op
from clustersim.models.step import StepShape
from clustersim.results.energy import price_of
from clustersim.scenario.plan import DeploymentPlan
from clustersim.units import HOUR_S, si, yaml_name


class Source(NamedTuple):
    """One row: what it belongs to, the figure's name and value, and how it is known."""

    thing: str
    figure: str
    value: str
    evidence: str
    source: str


def sources(plan: DeploymentPlan) -> list[Source]:
    """Return the figures of the accelerator, node, links, network, site, price and engine, then the operators' fits."""
    return [*_hardware(plan), *_site(plan), *_price(plan), *_engine(plan), *_operators(plan)]


def _rows(thing: str, of: Value, fields: tuple[str, ...]) -> Iterator[Source]:
    """Yield the fields that hold figures, with their values as YAML writes them."""
    dump = of.model_dump(mode="json")
    for field in fields:
        figure = dump[yaml_name(field)]
        if figure is not None:
            name = yaml_name(field).replace("_", " ")
            value = _value(field, getattr(of, field).value) or str(figure["value"])
            yield Source(f"{thing} {dump['name']}", name, value, figure["evidence"], _dated(figure))


#: Suffix of a field -> unit, the longer suffixes first.
_UNITS = (("_flops_per_s", "FLOP/s"), ("_bytes_per_s", "B/s"), ("_bytes", "B"), ("_w", "W"), ("_s", "s"))


def _value(field: str, value: float) -> str:
    """Return a figure of a device for people, where its suffix says in what it is; "" elsewhere."""
    for suffix, unit in _UNITS:
        if field.endswith(suffix):
            return si(value, unit, digits=4)
    return ""


def _dated(figure: dict[str, str]) -> str:
    return f"{figure['source']} ({figure['date']})" if figure.get("date") else figure["source"]


def _hardware(plan: DeploymentPlan) -> Iterator[Source]:
    node = plan.cluster.node
    device = node.accelerator
    multiplied = {
        plan.cost.fit(op.family, op.dtype)[0].peak for op in _ops(plan) if op.family not in COLLECTIVES
    }
    peaks = tuple(f"{peak}_flops_per_s" for peak in ("bf16", "fp8", "int8", "fp4") if peak in multiplied)
    rest = ("memory_bytes", "memory_bandwidth_bytes_per_s", "kernel_launch_s", "tdp_w", "idle_w")
    yield from _rows("accelerator", device, peaks + rest)
    yield from _rows("node", node, ("host_idle_w", "host_max_w"))
    ranks = plan.deployment.parallelism.num_accelerators
    if ranks > 1 and node.scale_up is not None:
        yield from _link(node.scale_up)
    if ranks > node.count:
        yield from _link(node.nic)
        path = plan.cluster.network.path(node, plan.cluster.count)
        thing = f"network {plan.cluster.network.kind.replace('_', ' ')}"
        yield Source(
            thing,
            "bandwidth of one accelerator",
            si(path.bandwidth_bytes_per_s, "B/s"),
            path.evidence,
            path.source,
        )
        yield Source(
            thing,
            "latency of a message",
            si(path.latency_s, "s"),
            "assumed",
            "the port's, and that of each switch",
        )


def _link(link: Link) -> Iterator[Source]:
    return _rows(
        "link", link, ("bandwidth_bytes_per_s", "peer_bandwidth_bytes_per_s", "latency_s", "launch_s")
    )


def _site(plan: DeploymentPlan) -> Iterator[Source]:
    price = price_of(plan)
    paid = () if price is not None and price.includes_energy else ("electricity_usd_per_j",)
    yield from _rows("site", plan.site, ("pue", "carbon_g_per_j", "water_l_per_j", *paid))


def _price(plan: DeploymentPlan) -> Iterator[Source]:
    price = price_of(plan)
    if price is not None:
        energy = "electricity included" if price.includes_energy else "electricity apart"
        kind = plan.cluster.price.kind.replace("_", " ")
        value = f"{price.usd_per_s * HOUR_S:.4g} USD/h"
        yield Source(f"price {kind}", f"one accelerator, {energy}", value, price.evidence, price.source)


def _engine(plan: DeploymentPlan) -> Iterator[Source]:
    engine = plan.deployment.serving_engine
    yield from _rows("engine", engine, tuple(name for name, value in engine if isinstance(value, Figure)))


def _ops(plan: DeploymentPlan) -> list[Op]:
    made = phases(plan.cost, StepShape(8, 8192, 512, 512 * 513 / 2, 512, 1, 512))
    return [op for phase in made for op in phase.cost.ops(phase.shape)]


def _operators(plan: DeploymentPlan) -> Iterator[Source]:
    """Yield a row for each family of operators and type: the shares of its peaks that the device reaches."""
    seen = set()
    for op in _ops(plan):
        if (op.family, op.dtype) in seen:
            continue
        seen.add((op.family, op.dtype))
        thing = f"operator {op.family.replace('_', ' ')}"
        if op.family in COLLECTIVES:
            estimate = plan.cost.estimate(op, True)
            yield Source(thing, f"{op.ranks} ranks", "", estimate.evidence, estimate.source)
            continue
        fit, _ = plan.cost.fit(op.family, op.dtype)
        value = f"{fit.compute_frac * 100:.0f} % of FLOP/s, {fit.memory_frac * 100:.0f} % of bandwidth"
        error = (
            f"; median error {fit.error.median_ape_frac * 100:.0f} % on shapes held out" if fit.error else ""
        )
        yield Source(thing, op.dtype, value, fit.evidence, fit.source + error)
