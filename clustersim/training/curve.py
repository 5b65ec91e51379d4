"""What pretraining costs against the number of weights, for searches that ask many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from math import exp, floor, log, log2

from clustersim.models.spec import ModelSpec
from clustersim.training.run import Pretraining, TrainingRun
from clustersim.training.shapes import LEAST_PARAMS, MOST_PARAMS, dense

_PER_OCTAVE = 2


@dataclass(frozen=True)
class PerToken:
    """What one token of pretraining takes of the whole job, failures included. Dollars are None without a price."""

    duration_s: float
    accelerator_s: float
    energy_j: float
    gco2e: float
    mfu: float
    """Over the time of steps: goodput is not in it."""
    usd: float | None


@dataclass(frozen=True)
class PretrainingCurve:
    """A pretraining at any number of weights: knots are searched when first needed, between them it is a power law.

    The template's `batch_tokens` must be given: a batch that follows the tokens would make cost depend on them.
    """

    template: Pretraining
    """Its model is not looked at."""
    shape: Callable[[float], ModelSpec] = dense
    _knots: dict[int, PerToken] = field(default_factory=dict, compare=False, repr=False)

    def at(self, num_params: float) -> PerToken:
        """Return what a token takes with a model of so many weights; raises InputError where nothing fits."""
        place = log2(num_params) * _PER_OCTAVE
        low = floor(place)
        below, above = self._knot(low), self._knot(low + (place > low))
        share = place - low

        def between(name: str) -> float | None:
            one, other = getattr(below, name), getattr(above, name)
            if one is None or other is None:
                return None
            return exp((1 - share) * log(one) + share * log(other))

        return PerToken(*(between(each.name) for each in fields(PerToken)))  # type: ignore[arg-type]  # only usd is None

    def _knot(self, number: int) -> PerToken:
        if number not in self._knots:
            size = min(MOST_PARAMS, max(LEAST_PARAMS, 2.0 ** (number / _PER_OCTAVE)))
            self._knots[number] = _per_token(replace(self.template, spec=self.shape(size)).run())
        return self._knots[number]


def _per_token(run: TrainingRun) -> PerToken:
    tokens = run.tokens
    return PerToken(
        run.duration_s / tokens, run.accelerator_hours * 3600 / tokens, run.energy_j / tokens, run.gco2e / tokens,
        run.step.mfu, None if run.usd is None else run.usd / tokens,
    )  # fmt: skip
