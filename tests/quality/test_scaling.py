"""Loss laws, their optimum, data limits, and models trained for their service: the reference's numbers and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustersim.quality.data import STOCKS, repeated_tokens, with_synthetic
from clustersim.quality.exchange import inference_factor
from clustersim.quality.overtraining import cheapest
from clustersim.quality.parameters import Parameters
from clustersim.quality.scaling import (
    EPOCH_REFIT,
    HOFFMANN,
    KAPLAN_COMPUTE,
    PowerLaw,
    dense_equivalent,
)

FLOPS = st.floats(1e18, 1e32)


@pytest.mark.parametrize(
    ("flops", "ratio", "loss"),
    [(1e21, 21.6, 2.306), (1e23, 19.2, 2.032), (1e25, 17.1, 1.912), (1e27, 15.2, 1.859), (2e29, 13.3, 1.833)],
)
def test_compute_optimum(flops: float, ratio: float, loss: float) -> None:
    best = EPOCH_REFIT.optimum(flops)
    assert best.tokens / best.parameters == pytest.approx(ratio, abs=0.05)
    assert best.loss == pytest.approx(loss, abs=6e-4)
    assert EPOCH_REFIT.optimal_loss(flops) == pytest.approx(float(best.loss), rel=1e-12)


def test_constants_of_the_reference() -> None:
    assert EPOCH_REFIT.compute_coefficient == pytest.approx(2708, abs=1)
    assert EPOCH_REFIT.compute_exponent == pytest.approx(0.1783, abs=1e-4)
    assert HOFFMANN.compute_exponent == pytest.approx(0.154, abs=1e-3)
    grown = EPOCH_REFIT.optimum(np.array([1e24, 1e25])).parameters
    assert math.log10(grown[1] / grown[0]) == pytest.approx(0.513, abs=1e-3)
    # 49x compute halves the reducible loss
    assert 0.5 ** (-1 / EPOCH_REFIT.compute_exponent) == pytest.approx(49, abs=0.5)
    # GPT-3 is undertrained: 60 % of its compute would do
    gpt3 = EPOCH_REFIT.loss(175e9, 300e9)
    assert gpt3 == pytest.approx(2.0085, abs=1e-4)
    assert EPOCH_REFIT.effective_flops(175e9, 300e9) / (6 * 175e9 * 300e9) == pytest.approx(0.60, abs=0.01)
    assert EPOCH_REFIT.loss(405e9, 15.6e12) == pytest.approx(1.8926, abs=1e-4)
    assert EPOCH_REFIT.effective_flops(37e9, 14.8e12) == pytest.approx(1.4e24, rel=0.04)


def test_halving_a_loss_takes_far_more_than_ten_times_the_compute() -> None:
    for exponent, halved, tenfold in ((0.10, 1024, 0.206), (0.05, 1.05e6, 0.109)):
        law = PowerLaw(scale=1.0, exponent=exponent, evidence="assumed", source="test")
        assert law.factor_to_halve == pytest.approx(halved, rel=2e-3)
        assert 1 - law.loss(10.0) / law.loss(1.0) == pytest.approx(tenfold, abs=1e-3)
    assert 1.5 < KAPLAN_COMPUTE.loss(3.15e23) < 2.0


@given(FLOPS, st.floats(0.2, 5.0))
def test_nothing_beats_the_optimum(flops: float, factor: float) -> None:
    best = EPOCH_REFIT.optimum(flops)
    other = EPOCH_REFIT.loss(best.parameters * factor, best.tokens / factor)
    assert other >= best.loss - 1e-12


@given(FLOPS, st.floats(1.01, 10.0))
def test_effective_compute_of_an_optimal_model_is_its_compute(flops: float, factor: float) -> None:
    best = EPOCH_REFIT.optimum(flops)
    assert EPOCH_REFIT.effective_flops(best.parameters, best.tokens) == pytest.approx(flops, rel=1e-5)
    assert EPOCH_REFIT.effective_flops(best.parameters * factor, best.tokens / factor) < flops
    later = EPOCH_REFIT.effective_flops(best.parameters, best.tokens, year=2026, progress_per_year=3.0)
    assert later == pytest.approx(9 * flops, rel=1e-5)


@given(FLOPS, st.floats(0.6, 5.0))
def test_tokens_for_a_loss(flops: float, factor: float) -> None:
    best = EPOCH_REFIT.optimum(flops)
    tokens = EPOCH_REFIT.tokens_for(best.loss, best.parameters * factor)
    if np.isfinite(tokens):
        assert EPOCH_REFIT.loss(best.parameters * factor, tokens) == pytest.approx(float(best.loss), rel=1e-9)
    assert EPOCH_REFIT.tokens_for(best.loss, best.parameters * 1e-3) == np.inf


def test_refused() -> None:
    with pytest.raises(ValueError, match="parameters must be above 0"):
        EPOCH_REFIT.loss([1e9, 0.0], 1e12)
    with pytest.raises(ValueError, match="tokens must be above 0"):
        EPOCH_REFIT.loss(1e9, np.nan)
    with pytest.raises(ValueError, match="must not be fewer"):
        dense_equivalent(671e9, 37e9)
    with pytest.raises(ValueError, match=r"the law's floor is 1\.8172"):
        cheapest(1.8, 1e12)
    with pytest.raises(ValueError, match="costs must be finite"):
        cheapest(2.0, 1e12, cost_per_served_token=lambda n: np.full_like(n, np.nan))
    with pytest.raises(ValueError, match="served_tokens"):
        cheapest(2.0, -1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        with_synthetic(1e12, 1e12, 1.5)


def test_mixture_of_experts() -> None:
    assert dense_equivalent(37e9, 671e9, 0.5) == pytest.approx(158e9, rel=0.01)
    assert dense_equivalent(37e9, 37e9) == 37e9


# ---- data ------------------------------------------------------------------------------------------------------


def test_four_epochs_are_nearly_free() -> None:
    assert repeated_tokens(1e12, 4e12) / 4e12 == pytest.approx(0.93, abs=0.01)
    assert repeated_tokens(1e12, 5e11) == 5e11
    assert repeated_tokens(1e12, 1e30) == pytest.approx(1e12 * 16.4)
    assert with_synthetic(15e12, 10e12, 0.5) == 20e12
    assert (
        STOCKS["largest_run"].value
        < STOCKS["common_crawl"].value
        < STOCKS["web"].value
        < STOCKS["with_private"].value
    )


@given(st.floats(1e9, 1e15), st.floats(0.0, 1e3), st.floats(0.0, 1e3))
def test_more_passes_never_hurt_and_never_beat_fresh_data(unique: float, first: float, second: float) -> None:
    low, high = sorted((first, second))
    few, many = repeated_tokens(unique, np.array([low, high]) * unique)
    assert few <= many * (1 + 1e-12)
    assert many <= high * unique * (1 + 1e-12)


# ---- trained for service ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "smaller", "train"), [(1, 1.33, 1.03), (3, 1.69, 1.13), (10, 2.27, 1.41), (100, 3.62, 3.24)]
)
@pytest.mark.parametrize("flops", [6e23, 4e25])
def test_inference_aware_sizes(flops: float, served: float, smaller: float, train: float) -> None:
    best = EPOCH_REFIT.optimum(flops)
    small = cheapest(float(best.loss), served * float(best.tokens))
    assert best.parameters / small.parameters == pytest.approx(smaller, abs=0.006)
    assert small.train_flops / flops == pytest.approx(train, abs=0.006)
    assert EPOCH_REFIT.loss(small.parameters, small.train_tokens) == pytest.approx(float(best.loss), rel=1e-9)
    if flops == 6e23:
        ratios = {1: 34, 3: 59, 10: 134, 100: 779}
        assert small.train_tokens / small.parameters == pytest.approx(ratios[int(served)], rel=0.01)


def test_inference_aware_in_money() -> None:
    loss = float(EPOCH_REFIT.optimal_loss(6e23))
    none = cheapest(loss, 0.0)
    assert none.train_flops == pytest.approx(6e23, rel=1e-6)
    assert none.serve_cost == 0.0
    assert none.total_cost == pytest.approx(6e23, rel=1e-6)
    # Decoding at 1/8 of the training's utilisation makes a served FLOP eight times as dear.
    usd = 1e-18
    dear = cheapest(loss, 1e12, lambda n: np.full_like(n, usd), lambda n: 8 * usd * 2 * n)
    plain = cheapest(loss, 1e12, lambda n: np.full_like(n, usd), lambda n: usd * 2 * n)
    assert dear.parameters < plain.parameters < none.parameters
    # A step in cost (a second node from 20e9 parameters on) holds the size below it.
    stepped = cheapest(
        loss, 1e13, lambda n: np.full_like(n, usd), lambda n: np.where(n > 20e9, 1e-5, 1e-8) + 0 * n
    )
    assert stepped.parameters == pytest.approx(20e9, rel=1e-3)


def test_exchange_rates() -> None:
    assert inference_factor(10.0, Parameters()) == pytest.approx(14.7, abs=0.05)
    assert inference_factor(inference_factor(4.0, Parameters()) ** -1, Parameters()) < 1
    # the fitted slopes alone
    low = Parameters(logit_per_decade_compute=0.61, logit_per_decade_tokens=0.9)
    high = Parameters(logit_per_decade_compute=1.09, logit_per_decade_tokens=0.7)
    assert inference_factor(10.0, low) == pytest.approx(4.7, abs=0.1)
    assert inference_factor(10.0, high) == pytest.approx(36, abs=0.5)
    with pytest.raises(ValueError, match="train_factor"):
        inference_factor(0.0, Parameters())
