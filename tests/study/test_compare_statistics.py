"""Paired intervals: they hold the truth as often as they say, and difference and ratio never disagree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clustersim.study.compare.statistics import (
    MANY,
    POWER,
    differences,
    ratio_interval,
    replications_needed,
    t_quantile,
)

VALUES = st.floats(0.1, 1e4)
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=20)


def one(a, b, **options):
    (found,) = differences("m", {"A": a, "B": b}, **options)
    return found


def test_the_paired_interval_is_that_of_scipy():
    rng = np.random.default_rng(1)
    a = rng.normal(10, 2, 8)
    b = a + rng.normal(0.5, 0.3, 8)
    expected = stats.ttest_rel(b, a)
    low, high = expected.confidence_interval(0.95)
    found = one(a.tolist(), b.tolist())
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.verdict == "real") == (expected.pvalue < 0.05)


@given(PAIRS)
def test_difference_and_ratio_agree_on_what_is_real(pairs):
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    found = one(a, b)
    if found.verdict in ("identical", "no value") or found.ratio_low is None:
        return
    slack = 1e-6 * abs(found.ratio)
    assert found.ratio_low - slack <= found.ratio <= found.ratio_high + slack
    edge = min(abs(found.low), abs(found.high)) < 1e-6 * (abs(found.mean) + max(a))
    assert edge or (found.verdict == "real") == (found.ratio_low > 1 or found.ratio_high < 1)


@given(PAIRS)
def test_turned_round_it_is_the_same(pairs):
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    there, back = one(a, b), one(b, a)
    assert there.verdict == back.verdict
    assert there.mean == pytest.approx(-back.mean)
    assert there.low == pytest.approx(-back.high)
    assert there.more_replications == back.more_replications


@given(PAIRS, st.floats(1e-3, 1e3))
def test_units_do_not_matter(pairs, scale):
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    small, large = one(a, b), one([scale * x for x in a], [scale * x for x in b])
    if small.verdict != "identical" and min(abs(small.low), abs(small.high)) > 1e-6 * max(a):
        assert small.verdict == large.verdict
        assert large.mean == pytest.approx(scale * small.mean)
        assert large.ratio == pytest.approx(small.ratio)


def test_all_pairs_are_in_their_intervals_together():
    rng = np.random.default_rng(2)
    truth = {"A": 10.0, "B": 11.0, "C": 13.0, "D": 9.0}
    held = 0
    for _ in range(400):
        shared = rng.normal(0, 3, 10)
        runs = {letter: (mean + shared + rng.normal(0, 1, 10)).tolist() for letter, mean in truth.items()}
        held += all(d.low <= truth[d.b] - truth[d.a] <= d.high for d in differences("m", runs))
    assert held / 400 >= 0.93


def test_fiellers_interval_covers_the_ratio():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(1000):
        shared = rng.normal(0, 2, 6)
        a, b = 10 + shared + rng.normal(0, 1, 6), 12 + shared + rng.normal(0, 1, 6)
        _, low, high = ratio_interval(a, b, 0.95)
        held += low <= 1.2 <= high
    assert 0.93 <= held / 1000 <= 0.97


def test_a_ratio_to_what_may_be_nothing_has_no_limits():
    found = one([-1.0, 1.0, 0.5, -0.4], [5.0, 6.0, 5.5, 4.0])
    assert (found.ratio_low, found.ratio_high) == (None, None)
    assert one([0.0, 0.0], [1.0, 2.0]).ratio is None


def test_what_is_equal_in_every_run_is_identical_and_a_missing_value_is_none():
    assert one([3.0, 4.0, 5.0], [3.0, 4.0, 5.0]).verdict == "identical"
    assert one([3.0, 4.0], [3.0 * (1 + 1e-13), 4.0]).verdict == "identical"
    assert one([0.0, 0.0], [0.0, 0.0]).ratio is None
    found = one([3.0, None, 5.0], [3.0, 4.0, 5.0])
    assert (found.verdict, found.mean, found.low) == ("no value", None, None)


def test_a_difference_without_spread_is_real():
    assert one([2.0, 2.0, 2.0], [3.0, 3.0, 3.0]).verdict == "real"


@pytest.mark.parametrize("effect", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("level", [0.95, 1 - 0.05 / 6])
def test_so_many_replications_tell_them_apart_four_times_in_five(effect, level):
    unit = np.array([-1.0, 1.0])
    needed = replications_needed(effect + unit / unit.std(ddof=1), level)

    def power(num):
        edge = t_quantile(level, num)
        centre = effect * np.sqrt(num)
        return stats.nct.sf(edge, num - 1, centre) + stats.nct.cdf(-edge, num - 1, centre)

    assert power(needed) > POWER - 0.01
    assert power(needed - 2) < POWER + 0.01


def test_no_difference_at_all_needs_more_than_can_be_run():
    assert replications_needed(np.array([-1.0, 1.0]), 0.95) == MANY


def test_more_pairs_make_each_interval_wider():
    rng = np.random.default_rng(4)
    runs = {letter: rng.normal(10, 1, 6).tolist() for letter in "ABC"}
    alone = one(runs["A"], runs["B"])
    together = differences("m", runs)[0]
    assert together.high - together.low > alone.high - alone.low
