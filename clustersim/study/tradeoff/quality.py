"""From a target accuracy to the pretraining that reaches it: the quality model, solved backwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from clustersim.quality.benchmark import Benchmark
from clustersim.quality.parallel import verified, vote
from clustersim.quality.parameters import Parameters
from clustersim.quality.scaling import BASE_YEAR
from clustersim.quality.solver import REFERENCE_FLOPS, REFERENCE_TOKENS, Solver
from clustersim.records import Floats
from clustersim.study.tradeoff.schema import TradeoffStudy
from clustersim.workload.strategies import Strategy
from clustersim.workload.strategies.best_of_n import BestOfN
from clustersim.workload.strategies.vote import Vote

_MEANS = np.linspace(0.0, 1.0, 801)


def needed_mean(strategy: Strategy, accuracy: float, numbers: Parameters) -> float:
    """Return the mean accuracy of single samples with which the strategy reaches `accuracy`; nan where none does."""
    if isinstance(strategy, Vote):
        reached = vote(_MEANS, strategy.n, numbers.heterogeneity, numbers.plurality_threshold)
    elif isinstance(strategy, BestOfN):
        check = strategy.verifier
        reached = verified(_MEANS, strategy.n, numbers.heterogeneity, check.true_accept, check.false_accept)
    else:
        return accuracy
    rising = np.maximum.accumulate(reached)
    if accuracy > rising[-1]:
        return float("nan")
    return float(np.interp(accuracy, rising, _MEANS))


@dataclass(frozen=True)
class Needs:
    """What pretraining must give under one choice of all parameters."""

    study: TradeoffStudy
    solver: Solver
    natural_without_rl: float
    """Thinking tokens of a sample of the same model before it was taught to reason."""
    decades: float
    """See ReinforcementLearning.decades."""

    def learned(self, doses: Floats) -> Floats:
        """Return the share of the reasoning shift that doses of reinforcement learning give, between 0 and 1."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.clip(1.0 + np.log10(doses) / self.decades, 0.0, 1.0))

    def natural(self, doses: Floats) -> Floats:
        """Return the natural thinking length after these doses, tokens: geometric between none and all."""
        share = self.learned(doses)
        whole = self.solver.natural_tokens
        return np.asarray(self.natural_without_rl * (whole / self.natural_without_rl) ** share)

    def capability(self, doses: Floats, means: Floats, thinking: Floats) -> Floats:
        """Return the logits that training compute must give, (doses, means, thinking); nan where nothing helps.

        The inverse of quality/solver.py's law at single-sample means, for mean thinking tokens.
        """
        numbers, bounds = self.solver.parameters, self.solver.benchmark
        share = _share(means, bounds)
        useful = np.minimum(thinking, numbers.saturation_multiple * self.natural(doses)[:, None])
        serial = numbers.logit_per_decade_tokens * np.log10(useful / REFERENCE_TOKENS)
        taught = numbers.reasoning_shift * self.learned(doses)
        return np.asarray(
            logit(share)[None, :, None] - self.solver.intercept - taught[:, None, None] - serial[:, None, :]
        )

    def effective_flops(self, capability: Floats) -> Floats:
        """Return the effective compute, FLOP in algorithms of 2024, with that capability; inf behind the wall."""
        numbers, law = self.solver.parameters, self.solver.law
        if self.solver.mode == "log_compute":
            return np.asarray(REFERENCE_FLOPS * 10.0 ** (capability / numbers.logit_per_decade_compute))
        reducible = (
            float(law.optimal_loss(REFERENCE_FLOPS)) - law.irreducible - capability / numbers.logit_per_nat
        )
        with np.errstate(divide="ignore"):
            inverse = law.compute_coefficient / np.maximum(reducible, 0.0)
        flops = inverse ** (1.0 / law.compute_exponent)
        return np.asarray(np.where(np.isnan(capability), np.nan, flops))

    def train_tokens(self, effective_flops: Floats, sizes: Floats) -> Floats:
        """Return the tokens to pretrain on, (*effective_flops, sizes); inf where no amount of data suffices.

        Beyond the stock of data tokens are repeated, and worth less.
        """
        numbers, law, study = self.solver.parameters, self.solver.law, self.study
        own = effective_flops / numbers.progress_per_year ** (study.target.year - BASE_YEAR)
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = law.irreducible + law.compute_coefficient * own**-law.compute_exponent
        fresh = law.tokens_for(loss[..., None], self.counted(sizes))
        return _seen(
            np.where(np.isnan(fresh), np.inf, fresh), study.training.data_tokens, numbers.repetition_decay
        )

    def counted(self, sizes: Floats) -> Floats:
        """Return active weights as the anchor's are counted: those of a model of its sparsity with the same loss."""
        ratio = self.study.sparsity / self.study.target.anchor_sparsity
        return np.asarray(sizes * ratio**self.solver.parameters.moe_exponent)


def _share(means: Floats, bounds: Benchmark) -> Floats:
    floor, cap = bounds.floor.value, bounds.cap.value
    share = (means - floor) / (cap - floor)
    return np.asarray(np.where((share > 0) & (share < 1), share, np.nan))


def _seen(worth: Floats, unique: float, decay: float) -> Floats:
    """Return the tokens to pass over that are worth so many fresh ones: the inverse of data.repeated_tokens."""
    left = 1.0 - (worth / unique - 1.0) / decay
    with np.errstate(divide="ignore", invalid="ignore"):
        repeated = unique * (1.0 - decay * np.log(np.maximum(left, 0.0)))
    return np.asarray(np.where(worth <= unique, worth, repeated))
