"""A model on a benchmark: how training compute, thinking and samples become accuracy.

    logit m = a + capability(C) + kT log10(min(T, T_sat) / 1e4) + d kT log10(n) + rho [taught to reason]
    accuracy of one sample = floor + (cap - floor) sigmoid(logit m)

`capability` is kC log10(C / 1e25) in mode `log_compute` (every tenfold of training adds the same) and
s (L*(1e25) - L*(C)) in mode `loss_linked` (the loss has a floor: a wall). Data up to 4e25 FLOP cannot tell them apart,
so report both. The intercept `a` is solved from an anchor of the benchmark, never from the model's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, expit, logit, ndtri

from clustersim.errors import InputError
from clustersim.kinds import Value
from clustersim.quality.arrays import not_negative, positive, probability
from clustersim.quality.benchmark import Anchor, Benchmark
from clustersim.quality.parameters import Parameters
from clustersim.quality.problems import Problems
from clustersim.quality.scaling import EPOCH_REFIT, ScalingLaw
from clustersim.quality.success import Success
from clustersim.quality.trained_model import TrainedModel
from clustersim.records import Floats

Mode = Literal["log_compute", "loss_linked"]
MODES: tuple[Mode, ...] = get_args(Mode)
#: What the intercept rests on: an anchor of the model itself, of its family, or of other families only.
Basis = Literal["model", "family", "other families"]

#: Where the terms of the logit are zero; they move the intercept alone.
REFERENCE_FLOPS, REFERENCE_TOKENS = 1e25, 1e4


class Solver(Value):
    """A model on a benchmark with all its numbers; made by `solver`. Methods take arrays, which broadcast."""

    model: TrainedModel
    benchmark: Benchmark
    parameters: Parameters
    mode: Mode
    law: ScalingLaw
    intercept: float
    """a, logits."""
    natural_tokens: float
    """Mean serial thinking tokens of a sample that is left to itself."""
    basis: Basis

    @property
    def effective_flops(self) -> float:
        """Return the model's effective training compute, FLOP."""
        return self.model.effective_flops(self.parameters.progress_per_year, self.law)

    @property
    def saturation_tokens(self) -> float:
        """Return the serial tokens beyond which more add nothing."""
        return self.parameters.saturation_multiple * self.natural_tokens

    # ---- accuracy of one sample -----------------------------------------------------------------------------------

    def mean_accuracy(
        self,
        thinking_tokens: ArrayLike | None = None,
        *,
        effective_flops: ArrayLike | None = None,
        parallel: ArrayLike = 1.0,
    ) -> Floats:
        """Return the mean accuracy over the benchmark's problems of one answer.

        From mean serial tokens (the natural length if not given), effective training FLOP (the model's), and parallel
        samples that are combined by an unnamed search at `parallel_discount`; use `parallel.py` for a named one.
        """
        tokens = (
            self.natural_tokens
            if thinking_tokens is None
            else not_negative("thinking_tokens", thinking_tokens)
        )
        flops = (
            self.effective_flops if effective_flops is None else positive("effective_flops", effective_flops)
        )
        branches = np.asarray(parallel, dtype=np.float64)
        if np.any(branches < 1):
            raise ValueError(f"parallel must be 1 or more, not {float(branches.min()):g}")
        kt = self.parameters.logit_per_decade_tokens
        with np.errstate(divide="ignore"):  # no thinking at all: the floor
            serial = kt * np.log10(np.minimum(tokens, self.saturation_tokens) / REFERENCE_TOKENS)
        search = self.parameters.parallel_discount * kt * np.log10(branches)
        z = self._offset(self.model.reasoning_trained) + self.capability(flops) + serial + search
        floor, cap = self.benchmark.floor.value, self.benchmark.cap.value
        return np.asarray(floor + (cap - floor) * expit(z))

    def capability(self, effective_flops: ArrayLike) -> Floats:
        """Return the logits that training compute gives, over REFERENCE_FLOPS."""
        return _capability(self.mode, self.parameters, self.law, effective_flops)

    def tokens_for(self, accuracy: ArrayLike, *, effective_flops: ArrayLike | None = None) -> Floats:
        """Return the mean serial tokens that reach an accuracy; infinite where no thinking does (saturation, cap)."""
        flops = (
            self.effective_flops if effective_flops is None else positive("effective_flops", effective_flops)
        )
        floor, cap = self.benchmark.floor.value, self.benchmark.cap.value
        share = np.clip((np.asarray(accuracy, dtype=np.float64) - floor) / (cap - floor), 0.0, 1.0)
        needed = logit(share) - self._offset(self.model.reasoning_trained) - self.capability(flops)
        decades = np.minimum(needed / self.parameters.logit_per_decade_tokens, 300.0)
        tokens = REFERENCE_TOKENS * 10.0**decades
        return np.asarray(np.where(tokens <= self.saturation_tokens * (1 + 1e-12), tokens, np.inf))

    def _offset(self, reasoning_trained: bool) -> float:
        return self.intercept + self.parameters.reasoning_shift * reasoning_trained

    def success(self) -> Success:
        """Return the chances of success at natural length and beyond, as simulated tasks ask for them one at a time."""
        return Success(
            float(self.mean_accuracy().item()), logit_per_decade=self.parameters.logit_per_decade_tokens,
            saturation=self.parameters.saturation_multiple, heterogeneity=self.parameters.heterogeneity,
            floor=self.benchmark.floor.value, cap=self.benchmark.cap.value,
        )  # fmt: skip

    # ---- single problems, for simulation ------------------------------------------------------------------------

    def draw_problems(self, rng: np.random.Generator, num: int) -> Problems:
        """Return `num` problems of the benchmark, each array (num,)."""
        return self._problems(rng.random(num))

    def draw_problem(self, rng: np.random.Generator) -> Problems:
        """Return one problem, each array of shape ()."""
        return self._problems(np.asarray(rng.random()))

    def _problems(self, difficulty: Floats) -> Problems:
        return Problems(
            difficulty, self.success_probability(difficulty, self.natural_tokens, self.natural_tokens)
        )

    def draw_tokens(self, rng: np.random.Generator, difficulty: ArrayLike) -> Floats:
        """Return the thinking tokens of one sample of each problem left to itself, shape of `difficulty`, at least 1.

        ln T = mu + c z + noise, z the standard normal score of the difficulty; over all problems ln T ~ Normal(mu,
        thinking_sigma), and the mean of T is `natural_tokens`. Raises ValueError where c alone spreads lengths more
        than the benchmark's thinking_sigma.
        """
        sigma, slope = self.benchmark.thinking_sigma.value, self.parameters.thinking_per_difficulty
        if slope > sigma:
            raise ValueError(
                f"thinking_per_difficulty {slope:g} is above the {sigma:g} by which all thinking on "
                f"{self.benchmark.name} spreads; lower it, or raise thinking_sigma"
            )
        hard = ndtri(
            np.clip(probability("difficulty", difficulty), 1e-15, 1.0 - 1e-15)
        )  # finite at 0 and 1 too
        mu = math.log(self.natural_tokens) - sigma**2 / 2
        noise = math.sqrt(sigma**2 - slope**2) * rng.standard_normal(hard.shape)
        return np.asarray(np.maximum(np.exp(mu + slope * hard + noise), 1.0))

    def success_probability(
        self, difficulty: ArrayLike, thinking_tokens: ArrayLike, natural_tokens: ArrayLike
    ) -> Floats:
        """Return the probability that a sample of a problem is right after the serial tokens it really used.

        `natural_tokens` is what `draw_tokens` gave that sample; their ratio is its effort. Cut short and made to answer
        (effort under 1), or told to go on (over 1), a sample succeeds as the whole benchmark does at effort times the
        natural mean. Over all problems the mean at effort e is `mean_accuracy(e * natural)`, and p follows
        Beta(nu m, nu (1 - m)) at every e. A sample cut short without an answer is wrong: that is the caller's.
        """
        effort = not_negative("thinking_tokens", thinking_tokens) / positive("natural_tokens", natural_tokens)
        mean = self.mean_accuracy(effort * self.natural_tokens)
        m, u = np.broadcast_arrays(mean, 1.0 - probability("difficulty", difficulty))
        nu = self.parameters.heterogeneity
        inside = (m > 0.0) & (m < 1.0)
        safe = np.where(inside, m, 0.5)
        return np.asarray(np.where(inside, betaincinv(nu * safe, nu * (1.0 - safe), u), m))


def solver(
    model: TrainedModel,
    benchmark: Benchmark,
    *,
    parameters: Parameters | None = None,
    mode: Mode = "log_compute",
    law: ScalingLaw = EPOCH_REFIT,
    natural_tokens: float | None = None,
    unanchored: bool = False,
) -> Solver:
    """Return the solver of a model on a benchmark, its intercept solved from the nearest anchors.

    The anchor of the model itself; else those of its family, of its kind (taught to reason or not) where there are
    any. Else InputError, unless `unanchored`: then the mean over all families, which is no forecast (cross_family_sd).
    """
    numbers = parameters or Parameters()
    anchors, basis = nearest_anchors(model, benchmark)
    if basis == "other families" and not unanchored:
        raise InputError(
            f'{benchmark.name} has no anchor of {model.name}\'s family "{model.family}"; it has '
            f"{', '.join(benchmark.families)}. Add one known point of the family to the benchmark's anchors, or ask "
            "with unanchored=True for a flagged estimate, usually 12 to 25 points off"
        )
    lengths = [anchor.thinking_tokens.value for anchor in anchors]
    intercepts = [_intercept(anchor, benchmark, numbers, mode, law) for anchor in anchors]
    if natural_tokens is None:
        natural_tokens = math.prod(lengths) ** (1.0 / len(lengths))
    elif not 0 < natural_tokens < math.inf:
        raise ValueError(f"natural_tokens must be above 0 and finite, not {natural_tokens:g}")
    return Solver(
        model=model, benchmark=benchmark, parameters=numbers, mode=mode, law=law, basis=basis,
        intercept=sum(intercepts) / len(intercepts), natural_tokens=natural_tokens,
    )  # fmt: skip


def nearest_anchors(model: TrainedModel, benchmark: Benchmark) -> tuple[Sequence[Anchor], Basis]:
    """Return the anchors that say most of the model on the benchmark, and what they are."""
    same = [anchor for anchor in benchmark.anchors if anchor.model.name == model.name]
    if same:
        if same[0].model != model:
            raise InputError(
                f'a model named "{model.name}" differs from the anchor of {benchmark.name} by that name; rename it'
            )
        return same, "model"
    family = [anchor for anchor in benchmark.anchors if anchor.model.family == model.family]
    kind = [anchor for anchor in family if anchor.model.reasoning_trained == model.reasoning_trained]
    if family:
        return kind or family, "family"
    return benchmark.anchors, "other families"


def _capability(mode: Mode, parameters: Parameters, law: ScalingLaw, effective_flops: ArrayLike) -> Floats:
    if mode == "log_compute":
        return np.asarray(
            parameters.logit_per_decade_compute * np.log10(np.asarray(effective_flops) / REFERENCE_FLOPS)
        )
    gained = law.optimal_loss(REFERENCE_FLOPS) - law.optimal_loss(effective_flops)
    return np.asarray(parameters.logit_per_nat * gained)


def _intercept(
    anchor: Anchor, benchmark: Benchmark, parameters: Parameters, mode: Mode, law: ScalingLaw
) -> float:
    """Return the intercept with which the model law passes through the anchor."""
    floor, cap = benchmark.floor.value, benchmark.cap.value
    flops = anchor.model.effective_flops(parameters.progress_per_year, law)
    serial = parameters.logit_per_decade_tokens * math.log10(anchor.thinking_tokens.value / REFERENCE_TOKENS)
    share = (anchor.accuracy.value - floor) / (cap - floor)
    known = float(_capability(mode, parameters, law, flops)) + serial
    return float(logit(share)) - known - parameters.reasoning_shift * anchor.model.reasoning_trained
