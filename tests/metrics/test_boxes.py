"""Integrals of boxes over bins are those summed up box by box."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.metrics import Boxes, step_integral, time_average

TIMES = st.integers(0, 40).map(lambda quarter: quarter / 4)
BOXES = st.lists(st.tuples(TIMES, TIMES, st.floats(-3, 5)), max_size=20)
EDGES = st.lists(TIMES, min_size=2, max_size=8, unique=True).map(sorted)


def by_hand(boxes, low, high):
    return sum(max(0.0, min(end, high) - max(start, low)) * height for start, end, height in boxes)


@settings(max_examples=200, deadline=None)
@given(BOXES, EDGES)
def test_boxes_are_those_summed_up_one_by_one(boxes, edges):
    boxes = [(min(a, b), max(a, b), height) for a, b, height in boxes]
    start, end, height = np.array(boxes, dtype=np.float64).reshape(-1, 3).T
    expected = [by_hand(boxes, low, high) for low, high in itertools.pairwise(edges)]
    found = Boxes(start, end, np.array(edges))
    np.testing.assert_allclose(found.integral(height), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.integral(2 * height), found.integral(height) * 2)
    window = (edges[0], edges[-1])
    assert time_average(start, end, height, window) == pytest.approx(
        by_hand(boxes, *window) / (window[1] - window[0]), rel=1e-12, abs=1e-12
    )


def test_a_long_sum_keeps_its_digits():
    # A day of short runs one after another, always of height 3: means of 3, to rounding.
    at = np.linspace(0.0, 86400.0, 1_000_001)
    mean = step_integral(at[:-1], at[1:], 3.0, np.linspace(0.0, 86400.0, 401)) / 216.0
    assert np.abs(mean - 3.0).max() < 1e-10
