"""Popularity of experts, where they are put, and what that leaves to the busiest rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.errors import InputError
from clustersim.kinds import kinds
from clustersim.models.placement import copied, packed, place, scattered
from clustersim.models.popularity.busiest_rank import BusiestRank
from clustersim.models.popularity.counted import Counted
from clustersim.models.popularity.even import Even
from clustersim.models.popularity.zipf import Zipf

exponents = st.floats(0, 3)
ranks = st.sampled_from([2, 4, 8, 16, 32, 64])
EXPERTS, TOP_K = 64, 6


@given(st.floats(0, 10), st.sampled_from([(8, 2), (8, 8), (64, 6), (256, 8)]))
def test_shares_add_up_and_no_expert_has_more_than_every_token(
    exponent: float, size: tuple[int, int]
) -> None:
    num_experts, top_k = size
    shares = Zipf(exponent=exponent).shares(num_experts, top_k)
    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] <= (1 + 1e-12) / top_k
    assert (np.diff(shares) <= 1e-12).all()


def test_zipf_of_exponent_0_is_even() -> None:
    assert Zipf(exponent=0).shares(256, 8) == Even().shares(256, 8)


def test_every_kind_gives_even_ranks_where_experts_are_even() -> None:
    assert set(kinds("expert_popularity")) == {"busiest_rank", "counted", "even", "zipf"}
    for kind in (Even(), Zipf(exponent=0), Counted(counts=(7,) * EXPERTS), BusiestRank(ratio=1, ranks=8)):
        assert place(kind.shares(EXPERTS, TOP_K), 8, 0).busiest_over_mean == pytest.approx(1, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(exponents, ranks)
def test_redundant_experts_never_raise_the_busiest_load(exponent: float, num_ranks: int) -> None:
    shares = Zipf(exponent=exponent).shares(EXPERTS, TOP_K)
    loads = [
        place(shares, num_ranks, redundant).busiest_over_mean
        for redundant in range(0, 4 * num_ranks + 1, num_ranks)
    ]
    assert (np.diff(loads) <= 1e-9).all()
    assert loads[-1] >= 1 - 1e-9


@settings(max_examples=40, deadline=None)
@given(exponents, ranks)
def test_more_skew_never_lightens_the_busiest_rank(exponent: float, num_ranks: int) -> None:
    loads = [
        scattered(Zipf(exponent=e).shares(EXPERTS, TOP_K), num_ranks) for e in (0, exponent, exponent + 0.3)
    ]
    assert loads[0] == 1.0
    assert loads[0] <= loads[1] + 1e-9
    assert loads[1] <= loads[2] + 1e-9


@given(exponents, st.integers(0, 100))
def test_copies_go_where_the_load_a_copy_is_highest(exponent: float, redundant: int) -> None:
    shares = Zipf(exponent=exponent).shares(EXPERTS, TOP_K)
    copies = copied(shares, redundant)
    assert copies.sum() == EXPERTS + redundant
    assert copies.min() >= 1
    # None is worth more anywhere else: taking one away leaves at least the load of the hottest copy.
    without = np.where(copies > 1, np.asarray(shares) / np.maximum(copies - 1, 1), np.inf)
    assert without.min() >= (np.asarray(shares) / copies).max() * (1 - 1e-9)


@given(st.lists(st.floats(0.01, 1), min_size=8, max_size=8), st.sampled_from([1, 2, 4, 8]))
def test_packing_is_within_four_thirds_of_any_other_or_one_expert(loads: list[float], num_ranks: int) -> None:
    """Largest first is at most 4/3 above the best (Graham 1969), places aside: the heaviest bound it from below."""
    load = np.asarray(loads)
    busiest = packed(load, np.ones(8), num_ranks)
    assert busiest >= max(1.0, load.max() * num_ranks / load.sum()) * (1 - 1e-9)
    assert busiest <= num_ranks * (1 + 1e-9)


def test_deepseeks_units() -> None:
    """Prefill: nine experts a rank. Decode: 256 experts on 144 ranks of two, so that some ranks have two whole ones."""
    even = Even().shares(256, 8)
    assert place(even, 32, 32).busiest_over_mean == pytest.approx(1.0)
    assert place(even, 144, 32).busiest_over_mean == pytest.approx(2 / (256 / 144))
    assert place(even, 320, 64).busiest_over_mean == pytest.approx(1 / (256 / 320))
    skewed = Zipf(exponent=0.5).shares(256, 8)
    assert place(skewed, 32, 0).busiest_over_mean > 1.7
    assert place(skewed, 32, 32).busiest_over_mean < 1.01


@given(st.floats(0, 2), st.integers(0, 64))
def test_touched_experts_are_between_one_and_all(exponent: float, tokens: int) -> None:
    placed = place(Zipf(exponent=exponent).shares(EXPERTS, TOP_K), 8, 8)
    touched = placed.touched(np.array([0.0, 1.0, tokens, 1e9]), TOP_K)
    assert touched[0] == 0
    assert touched[1] == pytest.approx(TOP_K / 8)
    assert touched[2] <= (EXPERTS + 8) / 8
    assert touched[3] == pytest.approx(sum(alike for _, alike in placed.copies) / 8, rel=1e-2)


def test_touched_experts_are_those_of_random_draws() -> None:
    shares = np.asarray(Zipf(exponent=1).shares(EXPERTS, TOP_K))
    rng, tokens = np.random.default_rng(0), 20
    hit = [len(np.unique(np.nonzero(rng.random((tokens, EXPERTS)) < TOP_K * shares)[1])) for _ in range(500)]
    placed = place(tuple(shares), 8, 0)
    assert placed.touched(np.array([float(tokens)]), TOP_K)[0] * 8 == pytest.approx(np.mean(hit), rel=0.01)


@settings(max_examples=20, deadline=None)
@given(st.floats(1.0, 2.5), st.sampled_from([8, 32]))
def test_a_measured_imbalance_is_met(ratio: float, num_ranks: int) -> None:
    shares = BusiestRank(ratio=ratio, ranks=num_ranks).shares(256, 8)
    assert place(shares, num_ranks, 0).busiest_over_mean == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize(
    ("popularity", "why"),
    [
        (BusiestRank(ratio=30, ranks=4), "cannot have 30 times"),
        (BusiestRank(ratio=1.5, ranks=7), "7 ranks do not divide the 64 experts"),
        (Counted(counts=(1, 2)), "2 counts, but a layer has 64 experts"),
        (Counted(counts=(1000,) + (1,) * 63), "none can have more than 16.7%"),
    ],
)
def test_what_cannot_be_is_said(popularity, why: str) -> None:
    with pytest.raises(InputError, match=why):
        popularity.shares(EXPERTS, TOP_K)
