"""Which accelerators replicas get."""

from __future__ import annotations

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim import library
from clustersim.network.place import Place, Share
from clustersim.scenario.load import load_with_plans
from clustersim.scenario.placement import Vacancies, place
from clustersim.scenario.plan import plan


def shares(here: Place | None) -> list[tuple[int, tuple[int, ...]]]:
    assert here is not None
    return [tuple(share) for share in here.shares]


def test_small_replicas_share_a_node_and_large_ones_start_on_a_free_one() -> None:
    free = Vacancies("pool", 5, 8)
    assert shares(free.take(2)) == [(0, (0, 1))]
    assert shares(free.take(8)) == [(1, tuple(range(8)))]
    assert shares(free.take(4)) == [(0, (2, 3, 4, 5))]
    assert shares(free.take(12)) == [(2, tuple(range(8))), (3, (0, 1, 2, 3))]
    assert shares(free.take(4)) == [(3, (4, 5, 6, 7))]
    assert shares(free.take(2)) == [(0, (6, 7))]
    assert free.num_free == 8
    assert free.take(9) is None
    assert free.num_free == 8, "a refusal takes nothing"


def test_what_is_given_back_is_taken_again() -> None:
    free = Vacancies("pool", 2, 4)
    first, second = free.take(3), free.take(3)
    assert first is not None
    free.give_back(first)
    with pytest.raises(ValueError, match="not taken"):
        free.give_back(first)
    assert free.take(3) == first
    assert shares(second) == [(1, (0, 1, 2))]


def test_a_closed_node_takes_nobody() -> None:
    free = Vacancies("pool", 2, 4)
    free.closed.add(0)
    assert shares(free.take(4)) == [(1, (0, 1, 2, 3))]
    assert free.take(1) is None


def test_who_finds_no_node_with_room_is_spread_over_what_is_left() -> None:
    free = Vacancies("pool", 2, 8)
    assert [shares(free.take(5)) for _ in range(3)] == [
        [(0, (0, 1, 2, 3, 4))], [(1, (0, 1, 2, 3, 4))], [(0, (5, 6, 7)), (1, (5, 6))],
    ]  # fmt: skip


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_no_accelerator_is_given_twice_and_none_is_lost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    per_node, num_nodes = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    free, held = Vacancies("pool", num_nodes, per_node), []
    for _ in range(60):
        if held and rng.random() < 0.45:
            free.give_back(held.pop(int(rng.integers(len(held)))))
        else:
            num = int(rng.integers(1, per_node * 3 + 1))
            room = free.num_free
            here = free.take(num)
            assert (here is None) == (num > room), "what is free can be had"
            if here is not None:
                assert here.num_accelerators == num
                held.append(here)
        taken = [(node, each) for here in held for node, accelerators in here.shares for each in accelerators]
        assert len(taken) == len(set(taken)) == per_node * num_nodes - free.num_free
        assert all(0 <= node < num_nodes and 0 <= each < per_node for node, each in taken)


@settings(max_examples=100)
@given(st.lists(st.sampled_from([1, 2, 4, 8, 16, 24]), max_size=12))
def test_replicas_of_usual_sizes_lie_in_as_few_nodes_as_can_be(sizes: list[int]) -> None:
    free = Vacancies("pool", -(-sum(sizes) // 8) + len(sizes), 8)
    for size in sizes:
        here = free.take(size)
        assert here is not None
        assert len(here.shares) == -(-size // 8)


def test_deployments_get_places_in_their_order() -> None:
    scenario = toy.scenario(deployment={"replicas": 3, "parallelism": {"tp": 4}}, cluster={"count": 2})
    found = place(plan(scenario))
    assert [[here.shares[0] for here in replicas] for replicas in found] == [
        [Share(0, (0, 1, 2, 3)), Share(0, (4, 5, 6, 7)), Share(1, (0, 1, 2, 3))]
    ]


#: Scenarios that load only with a trace, or a profile, of one's own.
WANT_MORE = {"azure_conversation", "cpu_laptop"}


@pytest.mark.parametrize("name", sorted(set(library.names("scenarios")) - WANT_MORE))
def test_every_built_in_scenario_has_places_in_as_few_nodes_as_can_be(name: str) -> None:
    plans = load_with_plans(name)[1]
    for each, places in zip(plans, place(plans), strict=True):
        num, per_node = each.deployment.parallelism.num_accelerators, each.cluster.node.count
        assert len(places) == each.deployment.replicas
        assert all(len(here.shares) == -(-num // per_node) for here in places)
