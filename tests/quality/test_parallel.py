"""Votes, coverage and verifiers: formulas against published values, other computations, and Monte Carlo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import betaln

from clustersim.quality.parallel import coverage, plurality, precision, verified, vote

MEANS = st.floats(0.0, 1.0)
NUS = st.floats(0.3, 5.0)


def test_numbers_of_the_reference() -> None:
    for nu, expected in ((1.2, (0.851, 0.543, 0.822)), (2.5, (0.912, 0.590, 0.888))):
        assert plurality([0.744, 0.446, 0.710], 64, nu, 0.35) == pytest.approx(expected, abs=6e-4)
    assert coverage(0.159, 250, 1.2) == pytest.approx(0.678, abs=6e-4)
    assert coverage(0.159, 250, 2.5) == pytest.approx(0.859, abs=6e-4)
    # Beta(0.122, 0.645) for SWE-bench Lite
    fitted = coverage(0.122 / 0.767, [10, 50, 1000, 10000], 0.767)
    assert fitted == pytest.approx([0.350, 0.465, 0.628, 0.719], abs=1e-3)
    assert coverage(0.159, 250, 0.77) == pytest.approx(0.56, abs=0.002)
    # o1-mini: the raw formula at 4 and 8
    assert plurality(0.533, [4, 8], 1.2, 0.35) == pytest.approx([0.614, 0.663], abs=6e-4)
    # the ceilings of a noisy verifier
    ceilings = [precision(0.01, 0.9, 0.1), precision(0.01, 0.9, 0.01), precision(0.01, 0.95, 0.001)]
    assert ceilings == pytest.approx([0.08, 0.48, 0.91], abs=0.005)


def test_coverage_law_of_large_language_monkeys() -> None:
    """ln c = -1.839 k**-0.209, from the two published points; the Beta follows it to 10 points up to 10,000."""
    k = np.array([1, 10, 50, 250, 1000, 10000])
    power = np.exp(-1.839 * k**-0.209)
    assert power[[0, 3]] == pytest.approx([0.159, 0.56], abs=2e-3)
    assert np.abs(coverage(0.159, k, 0.767) - power).max() < 0.05


@settings(max_examples=40)
@given(MEANS, st.integers(1, 200), NUS)
def test_bounds_and_order(mean: float, k: int, nu: float) -> None:
    voted, covered = float(vote(mean, k, nu, 0.35)), float(coverage(mean, k, nu))
    assert 0.0 <= voted <= covered + 1e-9
    assert mean - 1e-9 <= covered <= 1.0 + 1e-12
    assert coverage(mean, k + 1, nu) >= covered - 1e-12
    assert coverage(mean, k, nu) <= 1 - (1 - mean) ** k + 1e-9  # alike problems gain the most
    checked = float(verified(mean, k, nu, 0.9, 0.1))
    assert -1e-9 <= checked <= covered + 1e-9
    assert checked <= verified(mean, k + 1, nu, 0.9, 0.1) + 1e-9
    assert verified(mean, k, nu, 0.9, 0.05) >= checked - 1e-9


@settings(max_examples=40)
@given(st.integers(8, 300), NUS, st.floats(0.2, 0.6))
def test_a_better_model_votes_better(k: int, nu: float, threshold: float) -> None:
    means = np.linspace(0, 1, 50)
    assert (np.diff(vote(means, k, nu, threshold)) >= -1e-9).all()
    assert vote([0.0, 1.0], k, nu, threshold) == pytest.approx([0.0, 1.0])


def test_one_sample_is_the_mean_and_few_are_interpolated() -> None:
    means = np.array([0.0, 0.1, 0.533, 1.0])
    assert vote(means, 1, 1.2, 0.35) == pytest.approx(means, abs=1e-12)
    assert coverage(means, 1, 1.2) == pytest.approx(means, abs=1e-12)
    assert verified(means, 1, 1.2, 0.9, 0.2) == pytest.approx(0.9 * means, abs=1e-12)
    few = vote(0.533, [1, 2, 4, 8], 1.2, 0.35)
    assert np.diff(few) == pytest.approx(np.diff(few)[0] * np.ones(3))


@settings(max_examples=25)
@given(st.floats(0.02, 0.98), st.integers(8, 128), NUS)
def test_the_vote_is_scipys_tail(mean: float, k: int, nu: float) -> None:
    expected = stats.betabinom.sf(np.floor(0.35 * k + 1e-9), k, nu * mean, nu * (1 - mean))
    assert plurality(mean, k, nu, 0.35) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("nu", "mean", "k", "tpr", "fpr"),
    [
        (1.2, 0.01, 1000, 0.9, 0.01),
        (1.2, 0.3, 100_000, 0.9, 0.1),
        (0.8, 0.001, 64, 1.0, 0.0),
        (2.5, 0.7, 10, 0.95, 0.001),
    ],
)
def test_the_verifier_is_its_integral(nu: float, mean: float, k: int, tpr: float, fpr: float) -> None:
    a, b = nu * mean, nu * (1 - mean)

    def integrand(logit: float) -> float:
        p, q = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(logit))
        accepted = p * tpr + q * fpr
        gain = (1 - (1 - accepted) ** k) * p * tpr / accepted
        return float(gain * np.exp(a * np.log(p) + b * np.log(q) - betaln(a, b)))

    below = integrate.quad(integrand, -600, 0, limit=2000, points=[-50, -20, -10, -5])[0]
    above = integrate.quad(integrand, 0, 600, limit=2000, points=[5, 20, 50, 100])[0]
    assert verified(mean, k, nu, tpr, fpr) == pytest.approx(below + above, abs=1e-9)


def test_a_perfect_verifier_covers_and_a_blind_one_guesses() -> None:
    means = np.linspace(0, 1, 11)
    assert verified(means, 20, 1.2, 1.0, 0.0) == pytest.approx(coverage(means, 20, 1.2), abs=1e-9)
    assert verified(means, 20, 1.2, 1.0, 1.0) == pytest.approx(means, abs=1e-9)


@pytest.mark.parametrize(("mean", "k", "nu"), [(0.3, 16, 1.2), (0.744, 64, 1.2), (0.159, 100, 0.8)])
def test_monte_carlo_agrees(mean: float, k: int, nu: float) -> None:
    rng = np.random.default_rng(7)
    num = 40_000
    p = rng.beta(nu * mean, nu * (1 - mean), num)
    right = rng.binomial(k, p)
    samples = rng.random((num, k)) < p[:, None]
    accepted = rng.random((num, k)) < np.where(samples, 0.8, 0.1)
    first = accepted.argmax(axis=1)
    chosen = accepted.any(axis=1) & samples[np.arange(num), first]
    for seen, predicted in (
        ((right > 0), coverage(mean, k, nu)),
        ((right > 0.35 * k), vote(mean, k, nu, 0.35)),
        (chosen, verified(mean, k, nu, 0.8, 0.1)),
    ):
        low, high = stats.binomtest(int(seen.sum()), num).proportion_ci(0.9999)
        assert low <= float(predicted) <= high


def test_shapes_broadcast_and_large_arrays_are_quick() -> None:
    means = np.linspace(0.01, 0.99, 200_000)
    assert vote(means, 64, 1.2, 0.35).shape == means.shape
    assert verified(means[:, None], [1, 8], 1.2, 0.9, 0.1).shape == (200_000, 2)
    assert coverage(0.5, [[1], [2]], 1.2).shape == (2, 1)


def test_refused() -> None:
    with pytest.raises(ValueError, match="k must be a whole number of 1 or more, not 0"):
        coverage(0.5, 0, 1.2)
    with pytest.raises(ValueError, match="k must be a whole number"):
        vote(0.5, 2.5, 1.2, 0.35)
    with pytest.raises(ValueError, match="mean must be between 0 and 1"):
        vote(1.5, 2, 1.2, 0.35)
    with pytest.raises(ValueError, match="threshold"):
        plurality(0.5, 8, 1.2, 1.0)
    with pytest.raises(ValueError, match="verifier"):
        verified(0.5, 8, 1.2, 0.0, 0.1)
    with pytest.raises(ValueError, match="nothing is ever accepted"):
        precision(0.0, 0.9, 0.0)
