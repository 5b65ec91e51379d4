"""Statistics against NumPy and against counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clustersim.metrics import (
    confidence_interval,
    latency_stats,
    meets,
    step_integral,
    time_average,
    weighted_quantiles,
)

values = arrays(float, st.integers(1, 30), elements=st.floats(0, 100))


@given(values)
def test_latency_stats_are_numpys_in_milliseconds(seconds) -> None:
    stats = latency_stats("x", seconds)
    assert stats["mean_x_ms"] == pytest.approx(1e3 * seconds.mean())
    assert stats["std_x_ms"] == pytest.approx(1e3 * seconds.std())
    assert stats["median_x_ms"] == stats["p50_x_ms"] == pytest.approx(1e3 * np.median(seconds))
    assert stats["p99_x_ms"] == pytest.approx(1e3 * np.percentile(seconds, 99))


def test_no_values_have_no_statistics() -> None:
    assert set(latency_stats("x", np.empty(0)).values()) == {None}


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(1, 5)), min_size=1, max_size=20), st.floats(0, 1))
def test_a_weight_is_a_value_repeated(pairs, at: float) -> None:
    each, weights = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    repeated = np.sort(np.repeat(each, weights.astype(int)))
    index = max(0, int(np.ceil(at * len(repeated) - 1e-9)) - 1)
    assert weighted_quantiles(each, weights, [at])[0] in (
        repeated[index],
        repeated[min(index + 1, len(repeated) - 1)],
    )
    stats = latency_stats("x", each, weights)
    assert stats["mean_x_ms"] == pytest.approx(1e3 * repeated.mean())
    assert stats["std_x_ms"] == pytest.approx(1e3 * repeated.std(), abs=1e-3)


def test_boxes_add_up() -> None:
    start, end = np.array([0.0, 1.0, 1.0]), np.array([2.0, 4.0, 1.0])
    np.testing.assert_allclose(
        step_integral(start, end, [1.0, 2.0, 9.0], np.array([0.0, 1, 3, 9])), [1, 5, 2]
    )
    assert time_average(start, end, 1.0, (1.0, 3.0)) == 1.5
    assert time_average(start, end, 1.0, (3.0, 3.0)) == 0.0
    assert step_integral(np.empty(0), np.empty(0), 1.0, np.array([0.0, 1.0])) == [0.0]


def test_limits() -> None:
    latencies = {"ttft": np.array([0.1, 0.3, np.nan]), "tpot": np.array([0.1, 0.1, 0.1])}
    assert meets(latencies, {"ttft": 0.2, "tpot": 0.1}).tolist() == [True, False, True]


def test_a_confidence_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [confidence_interval(rng.exponential(1.0, 30).tolist(), 0.9) for _ in range(2000)]
    covered = np.mean([low <= 1 <= high for low, high in intervals])
    assert covered == pytest.approx(0.9, abs=0.03)
    assert confidence_interval([2.0]) == (2.0, 2.0)
