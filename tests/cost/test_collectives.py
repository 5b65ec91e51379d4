"""Collectives against the alpha-beta forms worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost.collectives import Fabric
from clustersim.cost.profile import generic, load_profile
from clustersim.hardware.link import Link
from clustersim.models.ops import Op
from clustersim.network.topologies import Path

LINK = Link.model_validate(
    {"name": "wire", "kind": "nvlink", "topology": "switch", "bandwidth": {"value": "100 GB/s", "source": "toy"},
     "latency": {"value": "1 us", "source": "toy"}, "launch": {"value": "5 us", "source": "toy"}}
)  # fmt: skip
NET = Path(10e9, 2e-6, 10e-6, "assumed", "toy")
UNMEASURED = generic().model_copy(update={"collectives": {}})
FABRIC = Fabric(LINK, 8, NET, UNMEASURED)
MEASURED = load_profile("h100-sxm", None)
FAMILIES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send")
INSIDE, BETWEEN = 0.8 * 100e9, 0.8 * 10e9


def seconds(family: str, ranks: int, size: float, stride: int = 1, fabric: Fabric = FABRIC) -> float:
    op = Op("x", family, "bf16", 1, message_bytes=np.asarray(size, dtype=float), ranks=ranks, stride=stride)
    return float(fabric.time(op).seconds)


@pytest.mark.parametrize(
    ("family", "ranks", "size", "expected"),
    [
        ("all_gather", 8, 8e9, 5e-6 + 7 * 1e-6 + 7 / 8 * 8e9 / INSIDE),
        ("reduce_scatter", 4, 8e9, 5e-6 + 3 * 1e-6 + 3 / 4 * 8e9 / INSIDE),
        ("all_to_all", 8, 8e9, 5e-6 + 1e-6 + 7 / 8 * 8e9 / INSIDE),
        ("send", 2, 8e9, 5e-6 + 1e-6 + 8e9 / INSIDE),
        ("all_reduce", 8, 8e9, 5e-6 + 14 * 1e-6 + 14 / 8 * 8e9 / INSIDE),  # large: the ring
        ("all_reduce", 8, 8, 5e-6 + 1e-6 + 7 * 8 / INSIDE),  # small: one shot
    ],
)
def test_inside_a_node(family: str, ranks: int, size: float, expected: float) -> None:
    assert seconds(family, ranks, size) == pytest.approx(expected)


def test_a_measured_link_gives_all_that_was_measured() -> None:
    fabric = Fabric(None, 1, NET._replace(evidence="measured"), UNMEASURED)
    assert seconds("send", 2, 8e9, fabric=fabric) == pytest.approx(12e-6 + 8e9 / 10e9)
    assert seconds("all_gather", 4, 8e9, fabric=fabric) == pytest.approx(10e-6 + 6e-6 + 3 / 4 * 8e9 / 10e9)


def test_a_switch_that_adds_up_sends_each_byte_about_once() -> None:
    adding = Fabric(LINK.model_copy(update={"in_network_reduction": True}), 8, NET, UNMEASURED)
    assert seconds("all_reduce", 8, 8e9, fabric=adding) == pytest.approx(5e-6 + 2e-6 + 9 / 8 * 8e9 / INSIDE)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        # In the node, then a share of 1/8 between two nodes, then in the node again.
        ("all_reduce", 2 * (5e-6 + 7e-6 + 7 / 8 * 8e9 / INSIDE) + 10e-6 + 2e-6 + 1 * 1e9 / BETWEEN),
        ("all_gather", 5e-6 + 7e-6 + 7 / 8 * 8e9 / INSIDE + 10e-6 + 2e-6 + 1 / 2 * 1e9 / BETWEEN),
        # Half of every rank's message leaves its node; the rest moves meanwhile.
        ("all_to_all", 10e-6 + 2e-6 + 4e9 / BETWEEN),
    ],
)
def test_across_two_nodes(family: str, expected: float) -> None:
    assert seconds(family, 16, 8e9) == pytest.approx(expected)


def test_ranks_that_lie_a_node_apart_use_the_network_alone() -> None:
    assert seconds("send", 2, 8e9, stride=8) == pytest.approx(10e-6 + 2e-6 + 8e9 / BETWEEN)
    assert seconds("all_gather", 4, 8e9, stride=8) == pytest.approx(10e-6 + 3 * 2e-6 + 3 / 4 * 8e9 / BETWEEN)


@pytest.mark.parametrize("profile", [UNMEASURED, MEASURED], ids=["alpha-beta", "measured"])
@settings(max_examples=60)
@given(st.sampled_from(FAMILIES), st.sampled_from([2, 4, 8, 16, 32]), st.floats(0, 1e10), st.floats(1, 100))
def test_a_larger_message_never_takes_less(
    profile, family: str, ranks: int, size: float, factor: float
) -> None:
    fabric = Fabric(LINK, 8, NET, profile)
    less = seconds(family, ranks, size, fabric=fabric)
    assert seconds(family, ranks, size * factor, fabric=fabric) >= less * (1 - 1e-12)


@settings(max_examples=60)
@given(st.sampled_from(("all_gather", "reduce_scatter", "all_to_all")), st.integers(2, 7), st.floats(0, 1e10))
def test_one_more_rank_never_takes_less(family: str, ranks: int, size: float) -> None:
    assert seconds(family, ranks + 1, size) >= seconds(family, ranks, size) * (1 - 1e-12)


def test_many_sizes_at_once_are_those_one_by_one() -> None:
    sizes = np.geomspace(1, 1e10, 30)
    for fabric in (FABRIC, Fabric(LINK, 8, NET, MEASURED)):
        for ranks in (4, 16):
            op = Op("x", "all_reduce", "bf16", 1, message_bytes=sizes, ranks=ranks)
            alone = [seconds("all_reduce", ranks, size, fabric=fabric) for size in sizes]
            np.testing.assert_allclose(fabric.time(op).seconds, alone)
