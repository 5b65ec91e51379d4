"""What is not known, drawn: one choice of every uncertain number a draw, the first at their best values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clustersim.quality.accuracy import draw_solvers
from clustersim.quality.benchmark import load_benchmark
from clustersim.quality.parameters import PARAMETERS
from clustersim.quality.solver import Mode, solver
from clustersim.quality.trained_model import load_trained_model
from clustersim.randomness import stream
from clustersim.records import Floats
from clustersim.study.tradeoff.quality import Needs
from clustersim.study.tradeoff.schema import Span, TradeoffStudy

#: Parameters of the quality model that a tradeoff does not look at.
_UNUSED = frozenset({"parallel_discount", "thinking_per_difficulty", "synthetic_value", "cross_family_sd"})


@dataclass(frozen=True)
class Draw:
    """One choice of everything: factors are 1 and errors 0 at their best values."""

    needs: Needs
    training_cost: float
    """Factor on what training takes in time, dollars and energy."""
    training_price: float
    serving_price: float
    serving_error: float
    """Standard normal: the model's error of all step times."""
    simulation_error: Mapping[str, float]
    """Strategy -> standard normal: simulation's error of its rates."""


@dataclass(frozen=True)
class Draws:
    """The central choice, and draws with the value of each input (num,)."""

    central: Draw
    draws: Sequence[Draw]
    inputs: Mapping[str, Floats]


def draw_all(study: TradeoffStudy, mode: Mode, seed: int) -> Draws:
    """Return the central choice and `study.draws` draws; equal seeds draw alike in both modes.

    A new model of a known recipe differs from the anchor by `same_family_sd` logits, the same for all plans.
    """
    target, num = study.target, study.draws
    benchmark, model = load_benchmark(target.benchmark), load_trained_model(target.like)
    held = target.parameters
    central = solver(model, benchmark, parameters=held, mode=mode)
    usual = [a for a in benchmark.anchors if a.model.family == model.family and not a.model.reasoning_trained]
    lengths = [anchor.thinking_tokens.value for anchor in usual] or [central.natural_tokens]
    ratio = float(np.exp(np.mean(np.log(lengths)))) / central.natural_tokens
    solvers = draw_solvers(central, seed, num)
    recipe = stream(seed, "tradeoff", "recipe").standard_normal(num)

    def normal(*names: str) -> Floats:
        return stream(seed, "tradeoff", *names).standard_normal(num)

    def factor(name: str, span: Span) -> Floats:
        rng = stream(seed, "tradeoff", name)
        return np.ones(num) if span.low == span.high else rng.triangular(span.low, 1.0, span.high, num)

    inputs: dict[str, Floats] = {
        name: np.array([getattr(each.parameters, name) for each in solvers])
        for name in PARAMETERS
        if name not in _UNUSED | {"same_family_sd"} and name not in held.model_fields_set
    }
    inputs["anchor_thinking_tokens"] = np.array([each.natural_tokens for each in solvers])
    inputs["recipe"] = recipe * np.array([each.parameters.same_family_sd for each in solvers])
    inputs["rl_decades"] = study.rl.decades * factor("rl_decades", study.rl.decades_range)
    inputs["training_cost"] = factor("training_cost", study.training.error)
    inputs["training_price"] = factor("training_price", study.training.price_range)
    inputs["serving_price"] = factor("serving_price", study.serving.price_range)
    inputs["serving_error"] = normal("serving_error")
    simulation = {name: normal("simulation", name) for name in study.strategies}
    inputs |= {f"simulation of {name}": values for name, values in simulation.items()}

    def draw(i: int) -> Draw:
        one = solvers[i]
        moved = one.model_copy(update={"intercept": one.intercept + float(inputs["recipe"][i])})
        needs = Needs(study, moved, ratio * one.natural_tokens, float(inputs["rl_decades"][i]))
        return Draw(
            needs, float(inputs["training_cost"][i]), float(inputs["training_price"][i]),
            float(inputs["serving_price"][i]), float(inputs["serving_error"][i]),
            {name: float(values[i]) for name, values in simulation.items()},
        )  # fmt: skip

    best = Draw(
        Needs(study, central, ratio * central.natural_tokens, study.rl.decades), 1.0, 1.0, 1.0, 0.0,
        dict.fromkeys(study.strategies, 0.0),
    )  # fmt: skip
    varying = {name: values for name, values in inputs.items() if np.ptp(values) > 0}
    return Draws(best, [draw(i) for i in range(num)], varying)
