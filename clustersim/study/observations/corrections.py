"""What may be wrong with a simulated engine, as numbers that can be set: host times, KV capacity, speed of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from clustersim.cost.host import ServingEngine
from clustersim.errors import InputError
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.figure import Figure
from clustersim.hardware.node import Node
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario

#: Rates of an accelerator that a slower or faster step divides alike.
_RATES = (
    "fp32_flops_per_s", "tf32_flops_per_s", "bf16_flops_per_s", "fp8_flops_per_s", "int8_flops_per_s",
    "fp4_flops_per_s", "memory_bandwidth_bytes_per_s",
)  # fmt: skip
#: Parameters of a fit: field of Corrections -> what it is to a person.
PARAMETERS: Mapping[str, str] = {
    "step_scale": "time of a step's operators over the predicted",
    "step_overhead_s": "host time of a step",
    "sequence_overhead_s": "host time of a step for each sequence",
    "frontend_s": "time before the scheduler sees a request",
}


@dataclass(frozen=True)
class Corrections:
    """One set of values: times in seconds; `memory_frac` is the engine's share of memory, None to leave it."""

    step_scale: float
    step_overhead_s: float
    sequence_overhead_s: float
    frontend_s: float
    memory_frac: float | None = None

    @classmethod
    def of(cls, engine: ServingEngine) -> Corrections:
        """Return what an engine has already."""
        figures = (engine.step_overhead_s, engine.sequence_overhead_s, engine.frontend_s)
        return cls(1.0, *(figure.value for figure in figures))

    def with_(self, **changes: float | None) -> Corrections:
        """Return a copy with other values."""
        return replace(self, **changes)  # type: ignore[arg-type]  # names are those of the fields

    def engine(self, base: ServingEngine) -> ServingEngine:
        """Return the engine with these host times and this share of memory."""
        figures: dict[str, Any] = {
            name: getattr(base, name).model_copy(update={"value": getattr(self, name)})
            for name in ("step_overhead_s", "sequence_overhead_s", "frontend_s")
        }
        if self.memory_frac is not None:
            figures["memory_frac"] = self.memory_frac
        return base.model_copy(update=figures)

    def apply(self, scenario: Scenario, deployment: int) -> Scenario:
        """Return the scenario with these values in one of its deployments, and its cluster's devices scaled."""
        chosen = scenario.deployments[deployment]
        engine = self.engine(chosen.serving_engine)
        deployments = list(scenario.deployments)
        deployments[deployment] = chosen.model_copy(update={"serving_engine": engine})
        fleet = [
            site.model_copy(
                update={
                    "clusters": [
                        cluster.model_copy(update={"node": _scaled(cluster.node, self.step_scale)})
                        if cluster.name == chosen.on
                        else cluster
                        for cluster in site.clusters
                    ]
                }
            )
            for site in scenario.fleet
        ]
        return scenario.model_copy(update={"deployments": deployments, "fleet": fleet})


def _scaled(node: Node, step_scale: float) -> Node:
    """Return a node whose accelerators compute and read memory `step_scale` times slower."""
    if step_scale == 1.0:
        return node
    device: Accelerator = node.accelerator
    rates: dict[str, Figure[float]] = {}
    for name in _RATES:
        figure = getattr(device, name)
        if figure is not None:
            given = Figure.model_fields["source"].default  # a profile leaves alone what the user gave
            rates[name] = figure.model_copy(update={"value": figure.value / step_scale, "source": given})
    return node.model_copy(update={"accelerator": device.model_copy(update=rates)})


def memory_frac_for(scenario: Scenario, deployment: int, num_blocks: int) -> float:
    """Return the share of memory with which a data-parallel rank has `num_blocks` KV blocks.

    Raises InputError where no share up to 1 gives as many: then weights, formats or the device are others.
    """
    memory = plan(scenario)[deployment].memory
    block_bytes = memory.kv_bytes_per_token * memory.engine.block_size
    wanted = (num_blocks + 0.5) * block_bytes
    free = memory.capacity_bytes - memory.taken_bytes
    share = wanted / free if memory.engine.memory_frac_of == "free" else (
        (memory.taken_bytes + wanted) / memory.capacity_bytes
    )  # fmt: skip
    if not 0 < share <= 1:
        raise InputError(
            f"the engine reports {num_blocks:,} KV blocks of {memory.engine.block_size} tokens, and in the scenario "
            f"no share of memory gives them ({share:.0%} would be needed): is the model, its format, its parallelism "
            "or the accelerator another?"
        )
    return share
