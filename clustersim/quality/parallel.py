"""What k samples of one problem give: a perfect verifier, a vote, a noisy verifier.

Problems differ: each is solved by a sample with probability p ~ Beta(nu m, nu (1 - m)), m the mean accuracy, so k
samples give much less than k independent chances. Arrays broadcast; k are whole numbers of one or more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import ArrayLike
from scipy.special import expit, gammaln

from clustersim.quality.arrays import counts, probability
from clustersim.records import Floats

#: Below this many samples the vote's threshold is too coarse (2 samples would need one right), so it is interpolated.
MIN_VOTES = 8
#: Nodes of the trapezoid rule over logit p, and the degree of the interpolation over the mean.
_LOGIT_STEP = 0.3
_LOGITS = np.arange(-45.0, 45.01, _LOGIT_STEP)
_DEGREE = 96


def coverage(mean: ArrayLike, k: ArrayLike, heterogeneity: float) -> Floats:
    """Return the share of problems that at least one of k samples solves: 1 - B(a, b + k) / B(a, b)."""
    m = probability("mean", mean)
    return np.asarray(1.0 - _none_right(m, counts("k", k).astype(np.float64), heterogeneity))


def plurality(mean: ArrayLike, k: ArrayLike, heterogeneity: float, threshold: float) -> Floats:
    """Return the share of problems of which more than threshold x k samples are right (beta-binomial tail)."""
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold must be between 0 and 1, not {threshold:g}")
    return _per_k(mean, k, lambda m, each: _tail(m, each, heterogeneity, threshold))


def vote(mean: ArrayLike, k: ArrayLike, heterogeneity: float, threshold: float) -> Floats:
    """Return the accuracy of a plurality vote among k samples.

    `plurality` from MIN_VOTES up; below, linear in log k from one sample's accuracy to that of MIN_VOTES.
    It moves in steps of a point or two with k, since threshold x k is rounded down.
    """
    m, num = np.broadcast_arrays(probability("mean", mean), counts("k", k))
    full = plurality(m, np.maximum(num, MIN_VOTES), heterogeneity, threshold)
    weight = np.minimum(np.log(num) / math.log(MIN_VOTES), 1.0)
    return np.asarray(m + (full - m) * weight)


def verified(
    mean: ArrayLike, k: ArrayLike, heterogeneity: float, true_positive: float, false_positive: float
) -> Floats:
    """Return the share solved when samples are drawn until a verifier accepts one, k at most; none accepted is wrong.

    E[P_acc p TPR / (p TPR + (1 - p) FPR)], P_acc = 1 - (1 - p TPR - (1 - p) FPR)**k, by quadrature over the problems.
    """
    if not 0.0 < true_positive <= 1.0 or not 0.0 <= false_positive <= 1.0:
        raise ValueError("a verifier accepts right answers at a rate above 0, and both rates are at most 1")

    def given(p: Floats, each: int) -> Floats:
        accept = p * true_positive + (1.0 - p) * false_positive
        with np.errstate(divide="ignore"):
            accepted = -np.expm1(each * np.log1p(-accept))
        with np.errstate(invalid="ignore"):
            return np.where(accept > 0.0, accepted * p * true_positive / accept, 0.0)

    return _per_k(mean, k, lambda m, each: _expected(m, heterogeneity, lambda p: given(p, each)))


def precision(p: ArrayLike, true_positive: float, false_positive: float) -> Floats:
    """Return the share of accepted samples that are right, the ceiling of brute force on a problem solved with p."""
    right = probability("p", p) * true_positive
    wrong = (1.0 - np.asarray(p, dtype=np.float64)) * false_positive
    if np.any(right + wrong <= 0):
        raise ValueError("nothing is ever accepted: p x TPR + (1 - p) x FPR is 0")
    return np.asarray(right / (right + wrong))


def _per_k(mean: ArrayLike, k: ArrayLike, formula: Callable[[Floats, int], Floats]) -> Floats:
    """Return the formula over broadcast means and ks, evaluated once for every different k."""
    m, num = np.broadcast_arrays(probability("mean", mean), counts("k", k))
    out = np.empty(m.shape)
    for each in np.unique(num):
        chosen = num == each
        out[chosen] = formula(m[chosen], int(each))
    return out


def _none_right(m: Floats, k: Floats | float, nu: float) -> Floats:
    """Return P(no sample of k is right) = B(a, b + k) / B(a, b); right at m = 0 and 1 too."""
    b = nu * (1.0 - m)
    return np.asarray(np.exp(gammaln(b + k) - gammaln(b) + gammaln(nu) - gammaln(nu + k)))


def _tail(m: Floats, k: int, nu: float, threshold: float) -> Floats:
    """Return P(X > threshold k) for X ~ BetaBinomial(k, a, b), by the ratio of consecutive terms."""
    a, b = nu * m, nu * (1.0 - m)
    term = _none_right(m, float(k), nu)
    below = term.copy()
    for j in range(math.floor(threshold * k + 1e-9)):
        term = term * ((k - j) * (a + j) / ((j + 1) * (b + k - j - 1)))
        below += term
    return np.asarray(np.clip(1.0 - below, 0.0, 1.0))  # against rounding alone


def _expected(m: Floats, nu: float, function: Callable[[Floats], Floats]) -> Floats:
    """Return E[function(p)] for p ~ Beta(nu m, nu (1 - m)), shape of m.

    A line through the function's ends is taken out, whose mean is known; what is left vanishes at 0 and 1, so that
    the trapezoid rule over logit p converges exponentially however small a and b are. The mean is analytic in m,
    so it is evaluated at Chebyshev points and interpolated: to 1e-12 for nu up to 2.5, to 1e-7 up to 50.
    """
    p, q = expit(_LOGITS), expit(-_LOGITS)
    at_0, at_1 = function(np.array([0.0, 1.0]))
    left = (function(p) - at_0 * q - at_1 * p) * _LOGIT_STEP

    def rest(means: Floats) -> Floats:
        a, b = (nu * means)[..., None], (nu * (1.0 - means))[..., None]
        scale = np.exp(gammaln(nu) - gammaln(a) - gammaln(b))
        return np.asarray((scale * np.exp(a * np.log(p) + b * np.log(q))) @ left)

    curve = Chebyshev.interpolate(rest, _DEGREE, domain=[0.0, 1.0])
    return np.asarray(at_0 * (1.0 - m) + at_1 * m + curve(m))
