"""No step beats the roofline, and better hardware is never slower."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim import simulate
from clustersim.hardware.figure import Figure
from clustersim.models.ops import COLLECTIVES
from clustersim.models.step import StepShape
from clustersim.scenario.plan import DeploymentPlan, plan

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "dense": {"model": "llama-3.1-8b"},
    "dense over two": {"model": "llama-3.1-70b", "parallelism": {"tp": 4, "pp": 2}},
    "experts over two": {"model": "gpt-oss-120b", "parallelism": {"tp": 2}},
    "experts over four nodes": {"model": "deepseek-r1", "parallelism": {"ep": 32, "attention_dp": 32}},
    "experts across nodes": {"model": "qwen3-235b-a22b", "parallelism": {"tp": 16, "ep": 16}},
}
PLANS = {name: plan(toy.scenario(deployment=deployment))[0] for name, deployment in DEPLOYMENTS.items()}

shapes = st.builds(
    lambda batch, context, chunks, past: StepShape(
        batch, batch * context, sum(chunks), sum(n * past + n * (n + 1) // 2 for n in chunks),
        sum(chunks) + past * len(chunks), len(chunks), max(chunks, default=0),
    ),
    st.integers(1, 512), st.integers(1, 30_000), st.lists(st.integers(1, 8000), max_size=4), st.integers(0, 20_000),
)  # fmt: skip
names = st.sampled_from(sorted(PLANS))


@settings(max_examples=60)
@given(names, shapes, st.booleans())
def test_no_operator_beats_the_roofline(name: str, shape: StepShape, graph: bool) -> None:
    cost = PLANS[name].cost
    bandwidth = cost.device.memory_bandwidth_bytes_per_s.value
    link = cost.fabric.scale_up.bandwidth_bytes_per_s.value
    least = 0.0
    for op in cost.ops(shape):
        seconds = cost.estimate(op, graph).seconds
        if op.family in COLLECTIVES:
            # A switch that adds up lets an all-reduce send each byte once; a send has nobody to share with.
            wire = op.message_bytes * (
                1 if op.family in ("all_reduce", "send") else (op.ranks - 1) / op.ranks
            )
            bound = wire / max(link, cost.fabric.scale_out.bandwidth_bytes_per_s)
        else:
            bound = max(op.flops / cost.fit(op.family, op.dtype)[1], op.bytes / bandwidth)
        assert seconds >= bound * (1 - 1e-9), op
        least += op.count * bound
    assert cost.step_s(shape, graph) >= least


def better(each: DeploymentPlan, what: str, factor: float) -> DeploymentPlan:
    """Return the plan on hardware of which one figure is better by a factor."""
    node = each.cluster.node

    def more(owner: Any, *fields: str, by: float = factor) -> Any:
        figures = {field: getattr(owner, field) for field in fields}
        scaled = {
            f: Figure(value=old.value * by, source="derived") for f, old in figures.items() if old is not None
        }
        return owner.model_copy(update=scaled)

    if what == "flops":
        peaks = [field for field in type(node.accelerator).model_fields if field.endswith("_flops_per_s")]
        node = node.model_copy(update={"accelerator": more(node.accelerator, *peaks)})
    elif what == "network":
        node = node.model_copy(update={"scale_up": more(node.scale_up, "bandwidth_bytes_per_s"),
                                       "nic": more(node.nic, "bandwidth_bytes_per_s")})  # fmt: skip
    elif what == "latency":
        node = node.model_copy(update={"accelerator": more(node.accelerator, "kernel_launch_s", by=1 / factor),
                                       "nic": more(node.nic, "latency_s", by=1 / factor)})  # fmt: skip
    else:
        node = node.model_copy(update={"accelerator": more(node.accelerator, what)})
    cluster = each.cluster.model_copy(update={"node": node})
    return DeploymentPlan(each.index, each.deployment, cluster, each.site)


BETTER = ("flops", "memory_bandwidth_bytes_per_s", "network", "latency")


@settings(max_examples=60)
@given(names, shapes, st.sampled_from(BETTER), st.floats(1.01, 10), st.booleans())
def test_better_hardware_is_never_slower_in_a_step(
    name: str, shape: StepShape, what: str, factor: float, graph: bool
) -> None:
    before, after = PLANS[name].cost, better(PLANS[name], what, factor).cost
    assert after.step_s(shape, graph) <= before.step_s(shape, graph) * (1 + 1e-12)


@pytest.mark.parametrize("what", ["flops", "memory_bandwidth_bytes_per_s", "memory_bytes"])
def test_better_hardware_serves_no_less(what: str) -> None:
    base = toy.scenario(
        deployment={"max_model_len": 5000},
        workload={"arrivals": {"kind": "closed_loop", "concurrency": 300}, "num_requests": 600,
                  "lengths": {"kind": "fixed", "input": 2000, "thinking": 200, "answer": 50}},
    )  # fmt: skip
    (each,) = plan(base)
    fleet = base.fleet[0].model_copy(update={"clusters": [better(each, what, 1.5).cluster]})
    slow, fast = simulate(base), simulate(base.model_copy(update={"fleet": [fleet]}))
    assert fast["request_throughput"] > slow["request_throughput"]


@settings(max_examples=40)
@given(names, st.tuples(*[st.integers(1, 4000)] * 4), st.tuples(*[st.integers(0, 4000)] * 4), st.booleans())
def test_more_work_is_never_quicker(
    name: str, less: tuple[int, ...], extra: tuple[int, ...], prefill: bool
) -> None:
    cost = PLANS[name].cost

    def seconds(batch: int, context: int, chunk: int, past: int) -> float:
        first = StepShape.prefill(chunk, past) if prefill else StepShape()
        shape = dataclasses.replace(first, decode_seqs=batch, decode_context=batch * context)
        return float(cost.step_s(shape, False))

    assert seconds(*map(sum, zip(less, extra, strict=True))) >= seconds(*less) * (1 - 1e-12)
