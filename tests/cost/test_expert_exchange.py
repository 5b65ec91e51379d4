"""Dispatch and combine: against what DeepEP published, and what skew, redundant experts and bandwidth do to a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost.collectives import Fabric
from clustersim.cost.model import CostModel
from clustersim.cost.profile import generic
from clustersim.hardware.node import load_node
from clustersim.models.exchange import Fanout
from clustersim.models.ops import Op
from clustersim.models.popularity.even import Even
from clustersim.models.popularity.zipf import Zipf
from clustersim.models.step import StepShape
from clustersim.network.topologies.rail_optimised import RailOptimised
from clustersim.scenario.plan import plan

H800 = load_node("hgx-h800")
FABRIC = Fabric(
    H800.scale_up, 8, RailOptimised().path(H800, 32), generic().model_copy(update={"collectives": {}})
)
HIDDEN, TOP_K = 7168, 8
DISPATCH, COMBINE = HIDDEN * (1 + 4 / 128), HIDDEN * 2
#: deepseek-ai/DeepEP docs/legacy.md (V1), H800 and CX7 at 400 Gb/s, 128 tokens: ranks -> us of dispatch, of combine.
LOW_LATENCY = {8: (77, 114), 16: (118, 195), 32: (155, 273), 64: (173, 314), 128: (192, 369), 256: (194, 360)}
#: The same, 4,096 tokens from the top 4 of as many groups as nodes: ranks -> GB/s of dispatch, of combine, tokens to
#: the sender's own node counted as sent.
HIGH_THROUGHPUT = {16: (43, 43), 32: (58, 57), 64: (51, 50)}


def took(to: Fanout, tokens: int, each: float) -> float:
    message = np.asarray(tokens * to.routes(1).delivered * each)
    return float(
        FABRIC.time(
            Op("x", "all_to_all", "bf16", 1, message_bytes=message, ranks=to.ranks, fanout=to)
        ).seconds
    )


def test_low_latency_kernels_take_what_deepep_measured(record_property) -> None:
    errors = {}
    for ranks, published in LOW_LATENCY.items():
        to = Fanout("deepep_low_latency", ranks, TOP_K)
        for name, each, measured_us in zip(
            ("dispatch", "combine"), (DISPATCH, COMBINE), published, strict=True
        ):
            errors[ranks, name] = took(to, 128, each) * 1e6 / measured_us - 1
    record_property(
        "errors", {f"{name} EP{ranks}": round(error, 3) for (ranks, name), error in errors.items()}
    )
    assert np.median(np.abs(list(errors.values()))) < 0.06
    assert max(abs(error) for (ranks, _), error in errors.items() if ranks > 8) < 0.15
    # In one node these kernels reach only 98 and 127 GB/s of NVLink; the model has 160.
    assert -0.4 < errors[8, "dispatch"] < errors[8, "combine"] < 0


def test_high_throughput_kernels_reach_what_deepep_measured(record_property) -> None:
    errors = {}
    for ranks, published in HIGH_THROUGHPUT.items():
        nodes = ranks // 8
        to = Fanout("deepep_high_throughput", ranks, TOP_K, nodes, min(4, nodes))
        for name, each, measured in zip(("dispatch", "combine"), (DISPATCH, COMBINE), published, strict=True):
            rate = 4096 * to.nodes_reached(nodes) * each / took(to, 4096, each)
            errors[ranks, name] = rate / (measured * 1e9) - 1
    record_property(
        "errors", {f"{name} EP{ranks}": round(error, 3) for (ranks, name), error in errors.items()}
    )
    assert max(abs(error) for (ranks, _), error in errors.items() if ranks > 16) < 0.15
    # On two nodes V1 reached 43 GB/s (V2: 81 to 90); by the model NVLink bounds it at 55.
    assert 0 < errors[16, "dispatch"] < 0.4


# ---- steps -----------------------------------------------------------------------------------------------------


def cost_of(**parallelism: object) -> CostModel:
    deployment = {"model": "deepseek-v3", "parallelism": {"ep": 32, "attention_dp": 32} | parallelism}
    return plan(toy.scenario(cluster={"node": "hgx-h800", "count": 40}, deployment=deployment))[0].cost


LOW = cost_of(all_to_all="deepep_low_latency")
HIGH = cost_of(all_to_all="deepep_high_throughput")
DIRECT = cost_of()
SPREAD = {
    redundant: cost_of(redundant_experts=redundant, all_to_all="deepep_low_latency")
    for redundant in (0, 32, 64)
}
shapes = st.builds(
    lambda batch, context, tokens: StepShape(batch, batch * context, tokens, tokens * tokens / 2, tokens, 1, tokens),
    st.integers(1, 8000), st.integers(1, 10_000), st.integers(0, 8192),
)  # fmt: skip


def seconds(cost: CostModel, shape: StepShape) -> float:
    return float(cost.step_s(shape, cost.uses_graph(shape)))


@settings(max_examples=30, deadline=None)
@given(shapes, st.sampled_from([LOW, HIGH, DIRECT]))
def test_no_skew_is_even_routing(shape: StepShape, cost: CostModel) -> None:
    assert seconds(replace(cost, popularity=Zipf(exponent=0)), shape) == seconds(cost, shape)
    assert seconds(replace(cost, popularity=Even()), shape) == seconds(cost, shape)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 2), st.integers(64, 8192), st.sampled_from([LOW, HIGH, DIRECT]))
def test_skew_never_speeds_up_a_prefill(exponent: float, tokens: int, cost: CostModel) -> None:
    """A decode step may gain: skewed routing reads fewer experts, as measured tables have it, too."""
    shape = StepShape(0, 0, 32 * tokens, 16 * tokens * tokens, 32 * tokens, 32, tokens)
    law = replace(cost, profile=cost.profile.model_copy(update={"tables": {}}))
    even, skewed = seconds(law, shape), seconds(replace(law, popularity=Zipf(exponent=exponent)), shape)
    assert skewed >= even * (1 - (0.02 if tokens < 512 else 1e-9))


@pytest.mark.parametrize("exponent", [0.3, 0.8, 1.5])
def test_redundant_experts_take_the_skew_off_a_prefill(exponent: float) -> None:
    shape = StepShape(0, 0, 32 * 4096, 16 * 4096**2, 32 * 4096, 32, 4096)
    took_s = [seconds(replace(cost, popularity=Zipf(exponent=exponent)), shape) for cost in SPREAD.values()]
    assert took_s[0] > took_s[1] >= took_s[2] * (1 - 1e-3)  # more experts are read, too
    assert seconds(replace(LOW, imbalance=1.5), shape) > seconds(LOW, shape)


def test_the_busiest_rank_sends_and_receives_what_its_experts_draw() -> None:
    shape = StepShape.decode(3200, 4000)
    skewed = replace(LOW, popularity=Zipf(exponent=0.5))
    sent = [
        next(op for op in cost.ops(shape) if op.name == "expert_combine").message_bytes
        for cost in (LOW, skewed)
    ]
    assert 1.5 < sent[1] / sent[0] < 3


def test_once_to_each_node_saves_network_in_prefill_but_needs_the_host_in_decode() -> None:
    prefill, one = StepShape(0, 0, 32 * 8192, 16 * 8192**2, 32 * 8192, 32, 8192), StepShape.decode(32, 1000)

    def exchange(cost: CostModel, shape: StepShape) -> float:
        return sum(op.count * float(cost.estimate(op, True).seconds) for op in cost.ops(shape) if op.fanout)

    assert exchange(HIGH, prefill) < 0.5 * exchange(LOW, prefill)
    assert LOW.uses_graph(one)
    assert not HIGH.uses_graph(one)
    assert seconds(LOW, one) < seconds(HIGH, one)


def test_a_rack_of_one_domain_leaves_the_network_alone() -> None:
    deployment = {
        "model": "deepseek-v3",
        "parallelism": {"ep": 64, "attention_dp": 64, "all_to_all": "deepep_low_latency"},
    }
    cost = plan(toy.scenario(cluster={"node": "gb200-nvl72", "count": 1}, deployment=deployment))[0].cost
    faster = replace(
        cost,
        fabric=replace(cost.fabric, scale_out=cost.fabric.scale_out._replace(bandwidth_bytes_per_s=1e30)),
    )
    shape = StepShape.decode(6400, 4000)
    assert seconds(cost, shape) == seconds(faster, shape)
