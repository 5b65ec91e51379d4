"""What formulas may call: mathematics in every check, the quality model in checks of kind `quality`.

Arguments are numbers without a unit, quantities where the docstring names one, and words. FLOP are those of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from clustersim.errors import InputError, unknown
from clustersim.quality import observations
from clustersim.quality.benchmark import load_benchmark
from clustersim.quality.exchange import inference_factor as _inference_factor
from clustersim.quality.overtraining import Trained, cheapest
from clustersim.quality.parameters import PARAMETERS, Parameters
from clustersim.quality.scaling import EPOCH_REFIT, HOFFMANN
from clustersim.quality.solver import MODES, solver
from clustersim.quality.trained_model import load_trained_model
from clustersim.study.claims.formula import Function, amount, plain
from clustersim.units import registry

#: (mean tokens of all samples, accuracy) of votes by o1-mini on AIME 2024: the single samples' source.
_VOTES = ((22034, 0.533), (42868, 0.675), (88448, 0.70))
_LAWS = MappingProxyType({law.name: law for law in (EPOCH_REFIT, HOFFMANN)})


def _flop(value: float) -> Any:
    return registry().Quantity(float(value), "FLOP")


def _one_number(function: Callable[[float], float]) -> Function:
    return lambda value: function(plain(value))


def _smallest(*values: Any) -> Any:
    return min(values)


def _largest(*values: Any) -> Any:
    return max(values)


def parameter(name: str) -> float:
    """Return a parameter of the quality model at its default, e.g. "logit_per_decade_tokens"."""
    if name not in PARAMETERS:
        raise InputError(unknown("parameter of the quality model", name, PARAMETERS))
    return PARAMETERS[name].value


def law(name: str, constant: str) -> float:
    """Return one of the constants of a scaling law, "epoch_refit" or "hoffmann": "alpha", "beta", ..."""
    if name not in _LAWS:
        raise InputError(unknown("scaling law", name, _LAWS))
    known = ("irreducible", "a", "b", "alpha", "beta", "compute_exponent", "compute_coefficient")
    if constant not in known:
        raise InputError(unknown("constant of a scaling law", constant, known))
    return float(getattr(_LAWS[name], constant))


def inference_factor(train_factor: Any) -> float:
    """Return the factor of serial thinking that equals a factor of training compute."""
    return _inference_factor(plain(train_factor), Parameters())


def train_factor(thinking_factor: Any) -> float:
    """Return the factor of training compute that equals a factor of serial thinking: the inverse."""
    numbers = Parameters()
    decades = numbers.logit_per_decade_tokens / numbers.logit_per_decade_compute
    return float(plain(thinking_factor) ** decades)


def effective_flop(parameters: Any, train_tokens: Any) -> Any:
    """Return the FLOP of the compute-optimal model with the same loss."""
    return _flop(EPOCH_REFIT.effective_flops(plain(parameters), plain(train_tokens)).item())


def loss(parameters: Any, train_tokens: Any) -> float:
    """Return the pre-training loss, nats a token."""
    return float(EPOCH_REFIT.loss(plain(parameters), plain(train_tokens)).item())


def optimal_loss(flop: Any) -> float:
    """Return the loss of the compute-optimal model, nats a token."""
    return float(EPOCH_REFIT.optimal_loss(amount(flop, "FLOP")).item())


def optimal_parameters(flop: Any) -> float:
    """Return the parameters of the compute-optimal model."""
    return float(EPOCH_REFIT.optimum(amount(flop, "FLOP")).parameters.item())


def optimal_tokens(flop: Any) -> float:
    """Return the training tokens of the compute-optimal model."""
    return float(EPOCH_REFIT.optimum(amount(flop, "FLOP")).tokens.item())


def optimal_flop(parameters: Any) -> Any:
    """Return the FLOP for which a number of parameters is compute-optimal: `optimal_parameters` turned round."""
    share = (EPOCH_REFIT.alpha + EPOCH_REFIT.beta) / EPOCH_REFIT.beta
    unit = float(EPOCH_REFIT.optimum(1.0).parameters.item())
    return _flop((plain(parameters) / unit) ** share)


def parameters_for(flop: Any, train_tokens: Any) -> float:
    """Return the parameters that reach, with so many training tokens, the loss of the compute-optimal model."""
    scaling = EPOCH_REFIT
    left = optimal_loss(flop) - scaling.irreducible - scaling.b * plain(train_tokens) ** -scaling.beta
    if left <= 0:
        raise InputError("no number of parameters reaches that loss with so few tokens")
    return float((scaling.a / left) ** (1.0 / scaling.alpha))


def logits_gained(mode: str, before: Any, after: Any) -> float:
    """Return the logits of accuracy that more training compute gives, in "log_compute" or "loss_linked"."""
    numbers = Parameters()
    low, high = amount(before, "FLOP"), amount(after, "FLOP")
    if mode == "log_compute":
        return numbers.logit_per_decade_compute * math.log10(high / low)
    if mode == "loss_linked":
        return numbers.logit_per_nat * float(EPOCH_REFIT.optimal_loss(low) - EPOCH_REFIT.optimal_loss(high))
    raise InputError(unknown("mode", mode, MODES))


def accuracy(model: str, benchmark: str, thinking_tokens: Any) -> float:
    """Return the accuracy of single samples after so many thinking tokens."""
    found = solver(load_trained_model(model), load_benchmark(benchmark))
    return float(found.mean_accuracy(plain(thinking_tokens)).item())


def observed_gain_per_decade() -> float:
    """Return the accuracy that ten times the tokens gave o1-mini on AIME 2024: least squares on published points."""
    points = [*observations.O1_MINI_SINGLE, *_VOTES]
    tokens, right = np.array(points).T
    return float(np.polyfit(np.log10(tokens), right, 1)[0])


def overtrained_shrink(served_over_train: Any, flop: Any) -> float:
    """Return by how much the cheapest model of the optimum's loss is smaller, if it serves a multiple of its tokens."""
    best, _ = _overtrained(served_over_train, flop)
    return float(EPOCH_REFIT.optimum(amount(flop, "FLOP")).parameters.item()) / best.parameters


def overtrained_flop(served_over_train: Any, flop: Any) -> float:
    """Return the training compute of that model, as a multiple of the optimum's."""
    best, compute = _overtrained(served_over_train, flop)
    return best.train_flops / compute


def _overtrained(served_over_train: Any, flop: Any) -> tuple[Trained, float]:
    compute = amount(flop, "FLOP")
    optimum = EPOCH_REFIT.optimum(compute)
    served = plain(served_over_train) * float(optimum.tokens.item())
    return cheapest(float(optimum.loss.item()), served), compute


MATHEMATICS: Mapping[str, Function] = MappingProxyType(
    {
        "log10": _one_number(math.log10), "ln": _one_number(math.log), "exp": _one_number(math.exp),
        "sqrt": _one_number(math.sqrt), "ceil": _one_number(math.ceil), "min": _smallest, "max": _largest,
    }
)  # fmt: skip
_QUALITY = (
    parameter, law, inference_factor, train_factor, effective_flop, loss, optimal_loss, optimal_parameters,
    optimal_tokens, optimal_flop, parameters_for, logits_gained, accuracy, observed_gain_per_decade,
    overtrained_shrink, overtrained_flop,
)  # fmt: skip
_BY_KIND: Mapping[str, Mapping[str, Function]] = MappingProxyType(
    {"quality": {function.__name__: function for function in _QUALITY}}
)


def functions_of(kind: str) -> Mapping[str, Function]:
    """Return the functions that checks of a kind may call."""
    return {**MATHEMATICS, **_BY_KIND.get(kind, {})}
