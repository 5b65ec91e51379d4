"""Statistics of timings against distributions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrate.statistics import (
    MIN_SAMPLES,
    block_bootstrap,
    half_width_frac,
    is_mixed,
    is_steady,
    mad,
    median_interval,
    outliers,
    summarise,
)


def test_scaled_mad_of_a_normal_law_is_its_standard_deviation() -> None:
    x = np.random.default_rng(0).normal(10, 2, 200_000)
    assert mad(x) == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("law", ["normal", "exponential", "lognormal"])
@pytest.mark.parametrize("n", [15, 40, 101])
def test_the_medians_interval_covers_it_in_95_of_100_draws(law: str, n: int) -> None:
    draw = np.random.default_rng(1)
    true = {"normal": 0.0, "exponential": np.log(2), "lognormal": 1.0}[law]
    hits = 0
    for _ in range(2000):
        low, high = median_interval(getattr(draw, law)(size=n))  # type: ignore[misc]
        hits += low <= true <= high
    assert 0.945 < hits / 2000 < 0.985


def test_the_interval_is_that_of_the_textbook() -> None:
    assert median_interval(np.arange(1, 16)) == (4, 12)
    assert median_interval(np.arange(1, 21)) == (6, 15)
    assert median_interval(np.arange(MIN_SAMPLES - 1)) is None
    assert half_width_frac(np.arange(3)) == np.inf


@given(st.lists(st.floats(1e-6, 1e3), min_size=15, max_size=60))
def test_the_interval_holds_the_median_and_lies_in_the_range(samples: list[float]) -> None:
    low, high = median_interval(samples)  # type: ignore[misc]
    assert min(samples) <= low <= np.median(samples) <= high <= max(samples)


def test_outliers_are_flagged_and_kept() -> None:
    x = np.append(np.random.default_rng(0).normal(100, 1, 99), 1000.0)
    assert outliers(x)[-1]
    assert outliers(x).sum() == 1
    summary = summarise([x])
    assert (summary.num_samples, summary.num_outliers) == (100, 1)
    assert not outliers(np.ones(20)).any()


def test_a_state_is_steady_when_three_medians_agree() -> None:
    assert not is_steady([1.0, 1.0])
    assert is_steady([5.0, 1.0, 1.005, 1.01])
    assert not is_steady([1.0, 1.005, 1.02])


@pytest.mark.parametrize("law", ["normal", "uniform", "exponential", "lognormal"])
@pytest.mark.parametrize("n", [20, 60, 400])
def test_one_regime_is_seldom_called_two(law: str, n: int) -> None:
    draw = np.random.default_rng(2)
    found = sum(is_mixed(10 + getattr(draw, law)(size=n)) for _ in range(200))
    assert found <= 4


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_two_regimes_are_found(share: float) -> None:
    draw = np.random.default_rng(3)
    for n in (20, 100):
        slow = np.arange(n) < share * n
        x = np.where(slow, 1.3, 1.0) * draw.normal(1, 0.01, n)
        assert is_mixed(x)


def test_the_bootstrap_sees_the_variance_between_runs() -> None:
    draw = np.random.default_rng(4)
    true, hits, widths = 1.0, 0, []
    for seed in range(100):
        runs = [draw.normal(draw.normal(true, 0.05), 0.001, 30) for _ in range(8)]
        low, high = block_bootstrap(
            runs, lambda r: float(np.mean([np.median(x) for x in r])), draws=200, seed=seed
        )
        hits += low <= true <= high
        widths.append(high - low)
    assert 80 <= hits <= 100
    assert np.median(widths) == pytest.approx(2 * 1.96 * 0.05 / np.sqrt(8), rel=0.3)


def test_runs_weigh_alike() -> None:
    summary = summarise([np.full(1000, 1.0), np.full(15, 2.0), np.full(15, 3.0)])
    assert summary.median_s == 2.0
    assert summary.num_runs == 3
    assert summary.low_s <= 2.0 <= summary.high_s
