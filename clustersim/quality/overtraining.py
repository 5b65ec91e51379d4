"""Train a smaller model for longer when it will be served much (Sardana et al., arXiv:2401.00448)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clustersim.quality.scaling import EPOCH_REFIT, SERVE_FLOPS, TRAIN_FLOPS, ScalingLaw
from clustersim.records import Floats

#: Takes parameters N, (n,), and returns a cost for each: money, FLOP or joules, but one of them throughout.
CostOf = Callable[[Floats], Floats]


def one_flop(parameters: Floats) -> Floats:
    """Return the cost of a FLOP of training counted in FLOP: 1, whatever the size."""
    return np.ones_like(parameters)


def two_flops_a_parameter(parameters: Floats) -> Floats:
    """Return the cost of a served token counted in FLOP: 2 N."""
    return SERVE_FLOPS * parameters


@dataclass(frozen=True)
class Trained:
    """The cheapest model of a given loss: its size, its training tokens, and what both of its lives cost."""

    parameters: float
    train_tokens: float
    train_flops: float
    train_cost: float
    serve_cost: float

    @property
    def total_cost(self) -> float:
        """Return the cost of training and serving."""
        return self.train_cost + self.serve_cost


def cheapest(
    loss: float,
    served_tokens: float,
    cost_per_train_flop: CostOf = one_flop,
    cost_per_served_token: CostOf = two_flops_a_parameter,
    law: ScalingLaw = EPOCH_REFIT,
) -> Trained:
    """Return the N and D of the given loss that cost least to train once and to serve `served_tokens`.

    FLOP are a poor measure of decoding; give both costs in money for decisions. Costs need not be smooth in N:
    2,000 sizes from just above the smallest that can reach the loss to 100 times the compute-optimal one
    are compared, and the best is refined between its neighbours. Raises ValueError for a loss that is out of
    reach, or costs that are not finite and zero or more. Over about 1,000 tokens a parameter the law extrapolates
    and overstates the gain (Sardana et al., section 4).
    """
    if loss <= law.irreducible:
        raise ValueError(f"no model reaches {loss:g} nats; the law's floor is {law.irreducible:g}")
    if served_tokens < 0:
        raise ValueError(f"served_tokens must be 0 or more, not {served_tokens:g}")

    def price(parameters: Floats) -> tuple[Floats, Floats, Floats]:
        tokens = law.tokens_for(loss, parameters)
        train = TRAIN_FLOPS * parameters * tokens * cost_per_train_flop(parameters)
        serve = served_tokens * cost_per_served_token(parameters)
        if not (np.all(np.isfinite(train + serve)) and np.all(train >= 0) and np.all(serve >= 0)):
            raise ValueError("costs must be finite and 0 or more for every size")
        return tokens, train, serve

    smallest = (law.a / (loss - law.irreducible)) ** (1.0 / law.alpha)
    flops = (law.compute_coefficient / (loss - law.irreducible)) ** (1.0 / law.compute_exponent)
    largest = 100.0 * float(law.optimum(flops).parameters.item())
    sizes = np.geomspace(smallest * 1.0001, largest, 2000)
    for _ in range(3):
        _, train, serve = price(sizes)
        best = int(np.argmin(train + serve))
        sizes = np.geomspace(sizes[max(best - 1, 0)], sizes[min(best + 1, len(sizes) - 1)], len(sizes))
    tokens, train, serve = price(sizes)
    best = int(np.argmin(train + serve))
    n, d = float(sizes[best]), float(tokens[best])
    return Trained(n, d, TRAIN_FLOPS * n * d, float(train[best]), float(serve[best]))
