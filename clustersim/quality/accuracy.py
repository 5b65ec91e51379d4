"""Accuracy with its uncertainty: the central value, a 90 % band, and whether it is anchored at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from clustersim.quality.benchmark import Anchor, Benchmark
from clustersim.quality.parameters import Parameters, draw_parameters
from clustersim.quality.ranged import Evidence, Ranged
from clustersim.quality.solver import Basis, Solver, nearest_anchors, solver
from clustersim.randomness import stream
from clustersim.records import Floats

#: The band's ends.
QUANTILES = (0.05, 0.95)


@dataclass(frozen=True)
class Accuracy:
    """What a policy reaches: mean, low and high of one shape; `anchored` is false where the value is no forecast."""

    mean: Floats
    low: Floats
    high: Floats
    anchored: bool
    evidence: Evidence
    note: str


def estimate(
    central: Solver, outcome: Callable[[Solver], Floats], draws: Sequence[Solver] | None = None
) -> Accuracy:
    """Return `outcome` (an accuracy, arrays of one shape) of the central solver with its band over the draws.

    `draws` is what `draw_solvers` gives; give the same ones for all policies that are compared. The band says
    nothing of the choice of mode: make an estimate for each of MODES.
    """
    solvers = draw_solvers(central) if draws is None else draws
    low, high = np.quantile(np.stack([outcome(each) for each in solvers]), QUANTILES, axis=0)
    anchors, basis = nearest_anchors(central.model, central.benchmark)
    return Accuracy(
        mean=np.asarray(outcome(central)),
        low=np.asarray(low),
        high=np.asarray(high),
        anchored=basis != "other families",
        evidence=_weakest(anchors),
        note=_note(central, anchors, basis),
    )


def draw_solvers(central: Solver, seed: int = 0, num: int = 200) -> tuple[Solver, ...]:
    """Return `num` solvers that could as well be true: parameters, anchors and bounds drawn over their ranges.

    Each solves its intercept anew, so that the band is narrow at the anchor and widens away from it. A model that is
    not itself the anchor gets Normal noise on the intercept: `same_family_sd` or `cross_family_sd` logits. Parameters
    that were set by hand, and a natural length given by hand, are held.
    """
    model, benchmark = central.model, central.benchmark
    usual = solver(model, benchmark, unanchored=True).natural_tokens
    noise = stream(seed, "quality", "intercept", benchmark.name, model.name).standard_normal(num)
    drawn = zip(
        draw_parameters(seed, num, central.parameters),
        _draw_benchmarks(benchmark, seed, num),
        noise.tolist(),
        strict=True,
    )
    return tuple(_noisy(central, *each, held_length=central.natural_tokens != usual) for each in drawn)


def _noisy(
    central: Solver, parameters: Parameters, benchmark: Benchmark, noise: float, held_length: bool
) -> Solver:
    drawn = solver(
        central.model, benchmark, parameters=parameters, mode=central.mode, law=central.law, unanchored=True,
        natural_tokens=central.natural_tokens if held_length else None,
    )  # fmt: skip
    sds: Mapping[Basis, float] = {
        "model": 0.0,
        "family": parameters.same_family_sd,
        "other families": parameters.cross_family_sd,
    }
    return drawn.model_copy(update={"intercept": drawn.intercept + sds[drawn.basis] * noise})


def _draw_benchmarks(benchmark: Benchmark, seed: int, num: int) -> Iterator[Benchmark]:
    """Yield the benchmark with its bounds and the figures of its anchors drawn over their ranges."""

    def draws(figure: Ranged[float], *names: str) -> list[Ranged[float]]:
        values = figure.draw(stream(seed, "quality", "benchmark", benchmark.name, *names), num)
        return [figure.model_copy(update={"value": value}) for value in values.tolist()]

    floors, caps = draws(benchmark.floor, "floor"), draws(benchmark.cap, "cap")
    columns = [
        (
            anchor,
            draws(anchor.accuracy, anchor.model.name, "accuracy"),
            draws(anchor.thinking_tokens, anchor.model.name, "thinking_tokens"),
        )
        for anchor in benchmark.anchors
    ]
    for index in range(num):
        anchors = tuple(
            anchor.model_copy(update={"accuracy": accuracy[index], "thinking_tokens": tokens[index]})
            for anchor, accuracy, tokens in columns
        )
        yield benchmark.model_copy(update={"floor": floors[index], "cap": caps[index], "anchors": anchors})


def _weakest(anchors: Sequence[Anchor]) -> Evidence:
    """Return the weakest evidence among the anchors' figures and the law's slopes, which are fitted."""
    order: tuple[Evidence, ...] = get_args(Evidence)
    used = [figure.evidence for each in anchors for figure in (each.accuracy, each.thinking_tokens)]
    return max([*used, "fitted"], key=order.index)


def _note(central: Solver, anchors: Sequence[Anchor], basis: Basis) -> str:
    known = ", ".join(f"{each.model.name} {each.accuracy.value:.1%}" for each in anchors)
    where = f"{central.model.name} on {central.benchmark.name}, mode {central.mode}"
    if basis == "other families":
        return f"{where}: not anchored, no forecast; from other families ({known})"
    return f"{where}: anchored by {known}"
