"""Where the copies of a token go, against routing drawn at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustersim.models.exchange import Fanout, buffer_bytes, dispatch_bytes, fanout
from clustersim.models.hf_config import load_model
from clustersim.models.layout import Parallelism
from clustersim.models.precision import Precision

V3 = load_model("deepseek-v3")
FP8 = Precision.model_validate({"weights": "fp8_block", "activations": "fp8", "kv_cache": "bf16"})
kernels = st.sampled_from(["deepep_high_throughput", "deepep_low_latency"])
fanouts = st.builds(
    Fanout, kernels, st.sampled_from([8, 16, 32, 64, 144, 320]), st.integers(1, 16),
    st.sampled_from([1, 8]), st.just(1), st.booleans(),
)  # fmt: skip


@given(fanouts, st.sampled_from([1, 2, 4, 8]))
def test_every_copy_is_delivered_once(to: Fanout, per_node: int) -> None:
    """What stays on its rank, goes within nodes and, where nothing is passed on, between them is what is delivered."""
    routes = to.routes(per_node)
    if to.kernels == "deepep_low_latency":
        stays = to.top_k / to.ranks
        assert routes.inside + routes.outside + stays == pytest.approx(routes.delivered)
    else:
        stays = routes.delivered / per_node  # the last hop is within a node, or to itself
        assert routes.inside + stays == pytest.approx(routes.delivered)
        nodes = to.ranks / per_node
        assert routes.outside <= min(nodes - 1, to.top_k) + 1e-9
    assert min(routes) >= 0
    assert routes.delivered <= to.top_k + 1e-9


@given(fanouts)
def test_all_in_one_node_leaves_the_network_alone(to: Fanout) -> None:
    assert to.routes(to.ranks).outside == pytest.approx(0)


@given(fanouts, st.sampled_from([1, 2, 4, 8]))
def test_sending_once_to_each_node_never_loads_the_network_more(to: Fanout, per_node: int) -> None:
    once = replace(to, kernels="deepep_high_throughput").routes(per_node)
    straight = replace(to, kernels="deepep_low_latency").routes(per_node)
    assert once.outside <= straight.outside * (1 + 1e-12)


@pytest.mark.parametrize("nodes", [1, 2, 4, 8, 16])
def test_nodes_reached_are_those_of_random_routing(nodes: int) -> None:
    """Four of eight groups, then eight of their 128 experts, as DeepSeek-V3's router does; experts lie by number."""
    rng = np.random.default_rng(1)
    reached = []
    for _ in range(4000):
        groups = rng.choice(8, 4, replace=False)
        candidates = (groups[:, None] * 32 + np.arange(32)).ravel()
        reached.append(len(np.unique(rng.choice(candidates, 8, replace=False) // (256 // nodes))))
    to = Fanout("deepep_high_throughput", 8 * nodes, 8, 8, 4)
    assert to.nodes_reached(nodes) == pytest.approx(np.mean(reached), rel=0.02)
    assert to.nodes_reached(nodes) <= 4 * max(1, nodes // 8)


def test_balancers_that_scatter_groups_lose_the_limit() -> None:
    ordered, scattered = (
        fanout(
            V3.moe,
            Parallelism(ep=ep, attention_dp=ep, redundant_experts=more, all_to_all="deepep_high_throughput"),
        )
        for ep, more in ((128, 0), (144, 32))
    )
    assert ordered.nodes_reached(16) < 5.3 < 6.5 < scattered.nodes_reached(18)
    kept = fanout(
        V3.moe, Parallelism(ep=32, attention_dp=32, redundant_experts=32, all_to_all="deepep_high_throughput")
    )
    assert kept.nodes_reached(4) < 3.2  # whole groups on each of four nodes


def test_a_token_in_fp8_carries_its_scales() -> None:
    assert dispatch_bytes(FP8, 7168) == 7168 + 4 * 56
    assert dispatch_bytes(Precision.model_validate("bf16"), 7168) == 2 * 7168


def test_low_latency_buffers() -> None:
    """256 experts and 128 tokens of 7,168 elements: 1.9 GB, as DeepEP's own hint gives."""
    layout = Parallelism(ep=128, attention_dp=128, all_to_all="deepep_low_latency")
    assert buffer_bytes(V3, layout, 128) == pytest.approx(1.88e9, rel=0.01)
    assert buffer_bytes(V3, Parallelism(ep=128, attention_dp=128), 128) == 0
