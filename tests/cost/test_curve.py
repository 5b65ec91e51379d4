"""Closed forms over piecewise-linear curves against adding up one by one."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clustersim.cost.curve import Curve

knots = st.lists(st.integers(0, 60), min_size=2, max_size=6, unique=True).map(sorted)
rising = st.lists(st.floats(0, 5), min_size=6, max_size=6)


@st.composite
def curves(draw) -> Curve:
    xs, steps = draw(knots), draw(rising)
    values = list(accumulate(steps[1 : len(xs)], initial=0.1 + steps[0]))
    return Curve(xs, values)


def one_by_one(curve: Curve, x: int, stride: int, count: int) -> list[float]:
    return list(accumulate(curve.at(x + j * stride) for j in range(count)))


@settings(max_examples=300)
@given(curves(), st.integers(0, 90), st.integers(0, 7), st.integers(1, 60))
def test_total_is_the_sum(curve: Curve, x: int, stride: int, count: int) -> None:
    assume(curve.at(x) > 0)
    assert curve.total(x, stride, count) == pytest.approx(one_by_one(curve, x, stride, count)[-1], rel=1e-12)


@settings(max_examples=300)
@given(curves(), st.integers(0, 90), st.integers(0, 7), st.integers(1, 60), st.floats(0, 1.2))
def test_reach_is_the_first_that_does(curve: Curve, x: int, stride: int, most: int, share: float) -> None:
    assume(curve.at(x) > 0)
    sums = one_by_one(curve, x, stride, most)
    seconds = share * sums[-1]
    assume(all(abs(total - seconds) > 1e-9 * total for total in sums))
    expected = next((n for n, total in enumerate(sums, 1) if total >= seconds), most)
    assert curve.reach(x, stride, seconds, most) == (expected, pytest.approx(sums[expected - 1], rel=1e-12))


@settings(max_examples=200)
@given(curves(), st.integers(0, 90), st.integers(0, 7), st.integers(1, 60))
def test_a_boundary_counts_as_reached(curve: Curve, x: int, stride: int, count: int) -> None:
    assume(curve.at(x) > 0)
    for boundary in (curve.total(x, stride, count), one_by_one(curve, x, stride, count)[-1]):
        assert curve.reach(x, stride, boundary, 1000)[0] == count


def test_outside_its_knots_a_curve_goes_on_straight() -> None:
    curve = Curve([10, 20, 30], [1.0, 2.0, 4.0])
    assert [curve.at(x) for x in (0, 10, 15, 25, 40)] == [0.0, 1.0, 1.5, 3.0, 6.0]
