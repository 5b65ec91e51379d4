"""Many sums over curves at once are the sums one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost.curve import Curve, totals


@st.composite
def curves(draw):
    steps = draw(st.lists(st.integers(1, 50), min_size=2, max_size=6))
    knots = np.cumsum(steps).tolist()
    values = np.cumsum(draw(st.lists(st.floats(0, 1), min_size=len(knots), max_size=len(knots)))).tolist()
    return Curve(knots, values)


SUMS = st.tuples(st.integers(0, 3), st.integers(0, 200), st.integers(0, 40), st.integers(0, 60))


@settings(max_examples=100, deadline=None)
@given(st.lists(curves(), min_size=4, max_size=4), st.lists(SUMS, max_size=12))
def test_totals_are_the_sums_one_by_one(made, sums):
    which, x, stride, count = np.array(sums, dtype=np.int64).reshape(-1, 4).T
    one_by_one = [made[curve].total(*numbers) for curve, *numbers in sums]
    np.testing.assert_allclose(totals(made, which, x, stride, count), one_by_one, rtol=1e-12, atol=1e-12)
