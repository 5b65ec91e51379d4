"""Pre-training loss from parameters and tokens, its compute-optimal point, and compute that counts alike.

L(N, D) = E + A N**-alpha + B D**-beta nats a token, with C = 6 N D FLOP of training (Hoffmann et al. 2022,
arXiv:2203.15556, approach 3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from clustersim.kinds import Value
from clustersim.quality.arrays import positive
from clustersim.quality.ranged import Evidence
from clustersim.records import Floats

#: FLOP a parameter and token of a dense transformer: forward 2, forward and backward 6 (Kaplan et al. 2020).
TRAIN_FLOPS, SERVE_FLOPS = 6.0, 2.0
#: The year whose algorithms effective compute is counted in.
BASE_YEAR = 2024


class Optimum(NamedTuple):
    """The compute-optimal model: parameters, training tokens, loss (nats a token); arrays of one shape."""

    parameters: Floats
    tokens: Floats
    loss: Floats


class ScalingLaw(Value):
    """L(N, D) = E + A N**-alpha + B D**-beta, nats a token, on web text with the Chinchilla tokenizer."""

    name: str
    irreducible: float
    """E, nats a token."""
    a: float
    b: float
    alpha: float
    beta: float
    evidence: Evidence
    source: str

    @property
    def compute_exponent(self) -> float:
        """Return the exponent with which the optimum's reducible loss falls in compute."""
        return self.alpha * self.beta / (self.alpha + self.beta)

    @property
    def compute_coefficient(self) -> float:
        """Return c of L* = E + c C**-compute_exponent, C in FLOP."""
        return float((self.optimum(1.0).loss - self.irreducible).item())

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats:
        """Return the loss, nats a token, of N parameters trained on D tokens; shapes broadcast."""
        n, d = positive("parameters", parameters), positive("tokens", tokens)
        return np.asarray(self.irreducible + self.a * n**-self.alpha + self.b * d**-self.beta)

    def optimum(self, train_flops: ArrayLike) -> Optimum:
        """Return the N and D of least loss for C = 6 N D FLOP, and that loss.

        N* = G (C/6)**(beta/(alpha+beta)) with G = (alpha A / (beta B))**(1/(alpha+beta)) (Hoffmann et al., eq. 4).
        """
        nd = positive("train_flops", train_flops) / TRAIN_FLOPS
        total = self.alpha + self.beta
        g = (self.alpha * self.a / (self.beta * self.b)) ** (1.0 / total)
        n = np.asarray(g * nd ** (self.beta / total))
        d = np.asarray(nd / n)
        reducible = self.a * n**-self.alpha + self.b * d**-self.beta
        return Optimum(n, d, np.asarray(self.irreducible + reducible))

    def optimal_loss(self, train_flops: ArrayLike) -> Floats:
        """Return L*(C), nats a token."""
        flops = positive("train_flops", train_flops)
        return np.asarray(self.irreducible + self.compute_coefficient * flops**-self.compute_exponent)

    def tokens_for(self, loss: ArrayLike, parameters: ArrayLike) -> Floats:
        """Return D at which N parameters reach the loss; infinite where no amount of data suffices."""
        n = positive("parameters", parameters)
        left = np.asarray(loss, dtype=np.float64) - self.irreducible - self.a * n**-self.alpha
        with np.errstate(divide="ignore"):
            return np.asarray((np.maximum(left, 0.0) / self.b) ** (-1.0 / self.beta))

    def effective_flops(
        self,
        parameters: ArrayLike,
        tokens: ArrayLike,
        year: ArrayLike = BASE_YEAR,
        progress_per_year: float = 3.0,
    ) -> Floats:
        """Return the compute, FLOP, of the compute-optimal model with the same loss, in algorithms of BASE_YEAR."""
        reducible = self.loss(parameters, tokens) - self.irreducible
        same_loss = (self.compute_coefficient / reducible) ** (1.0 / self.compute_exponent)
        growth = progress_per_year ** (np.asarray(year, dtype=np.float64) - BASE_YEAR)
        return np.asarray(same_loss * growth)


#: Constants rounded by the publication, which biases them (Besiroglu et al., arXiv:2404.10102).
HOFFMANN = ScalingLaw(
    name="hoffmann", irreducible=1.69, a=406.4, b=410.7, alpha=0.34, beta=0.28, evidence="assumed",
    source="Hoffmann et al. 2022, arXiv:2203.15556, approach 3; the exponents confirmed, A, B and E not",
)  # fmt: skip
#: An own refit on the 245 points gave A 477.8, B 2143.4, E 1.8172, alpha 0.3473, beta 0.3672.
EPOCH_REFIT = ScalingLaw(
    name="epoch_refit", irreducible=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658, evidence="fitted",
    source="Besiroglu et al. 2024, arXiv:2404.10102; refit on epoch-research/analyzing-chinchilla@9225883 agrees",
)  # fmt: skip


class PowerLaw(Value):
    """L(x) = (scale / x)**exponent, nats a token, without an irreducible part; x is never a bottleneck's companion."""

    scale: float
    exponent: float
    evidence: Evidence
    source: str

    def loss(self, x: ArrayLike) -> Floats:
        """Return the loss, nats a token."""
        return np.asarray((self.scale / positive("x", x)) ** self.exponent)

    @property
    def factor_to_halve(self) -> float:
        """Return the factor by which x must grow to halve the loss."""
        return float(2.0 ** (1.0 / self.exponent))


_KAPLAN = "Kaplan et al. 2020, arXiv:2001.08361; digits not confirmed"
#: Loss by non-embedding parameters, by tokens, and by compute (PF-days, converted to FLOP).
KAPLAN_PARAMETERS = PowerLaw(scale=8.8e13, exponent=0.076, evidence="assumed", source=_KAPLAN)
KAPLAN_TOKENS = PowerLaw(scale=5.4e13, exponent=0.095, evidence="assumed", source=_KAPLAN)
KAPLAN_COMPUTE = PowerLaw(scale=3.1e8 * 8.64e19, exponent=0.050, evidence="assumed", source=_KAPLAN)


def dense_equivalent(active: ArrayLike, total: ArrayLike, exponent: float = 0.4) -> Floats:
    """Return the parameters of the dense model with the loss of a mixture of experts.

    N_active (N_total / N_active)**exponent; `moe_exponent` of the parameters. FLOP are those of N_active all the same.
    """
    act, tot = positive("active", active), positive("total", total)
    if np.any(tot < act):
        raise ValueError("total parameters must not be fewer than active ones")
    return np.asarray(act * (tot / act) ** exponent)
