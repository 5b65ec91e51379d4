"""Fit an engine's host times, KV capacity and step speed to what it showed, and say which of them explains how much.

The simulator is run on the scenario that describes the deployment; its latencies are laid beside the observed ones
(logarithms, each weighed by how well such a statistic is known), and four numbers are moved from where they stand
until they agree, held back by wide normal priors. With J the derivatives, the posterior's covariance is
(J'J + I)^-1 in units of the priors. A number whose standard deviation has not fallen below half the prior's, or that
moved by less than one and a half of a wide one, was not told by the observations: it is held where it stood, the rest
is fitted anew, and what it could not be told from is named. KV capacity is not fitted: the engine reports its blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from clustersim.cost.host import ServingEngine
from clustersim.errors import InputError
from clustersim.study.observations.corrections import PARAMETERS, Corrections, memory_frac_for
from clustersim.study.observations.problem import Floats, Pair, Problem, Simulated, descend, error_frac

#: Posterior over prior standard deviation above which a number was not told, below which it was told whatever its
#: value, and in between the change over its deviation that is clear; correlation above which two were not told apart.
_UNTOLD, _SHARP, _CLEAR, _TIED = 0.5, 0.05, 1.5, 0.7


@dataclass(frozen=True)
class Parameter:
    """One number: as it was, as fitted, its standard deviation, and why it was not told, if so."""

    name: str
    before: float
    after: float
    deviation: float
    untold: str = ""


@dataclass(frozen=True)
class Removed:
    """A correction: the mean absolute error before and after it, each made on top of those before it, and alone."""

    name: str
    before_frac: float
    after_frac: float
    alone_frac: float


@dataclass(frozen=True)
class Fitted:
    """The outcome: corrections, where the error was, and what could not be told."""

    corrections: Corrections
    parameters: list[Parameter]
    removed: list[Removed]
    before: list[Simulated]
    after: list[Simulated]
    notes: list[str] = field(default_factory=list)


def fit(pairs: Sequence[Pair], deployment: int = 0, told: Callable[[int], object] = int) -> Fitted:
    """Return the corrections of a deployment's engine that best explain all observations together.

    `told(n)` hears how many simulations were run so far.
    """
    scenarios = [pair.scenario for pair in pairs]
    start = Corrections.of(scenarios[0].deployments[deployment].serving_engine)
    shared = {pair.observed.kv_blocks for pair in pairs if pair.observed.kv_blocks is not None}
    if len(shared) > 1:
        raise InputError(f"the observations are of engines with different KV blocks: {sorted(shared)}")
    base = start
    if shared:
        base = start.with_(memory_frac=memory_frac_for(scenarios[0], deployment, shared.pop()))
    problem = Problem(pairs, deployment, base)
    if not len(problem.residuals(np.zeros(len(PARAMETERS)))):
        if base == start:
            raise InputError("the observations and the simulation have no metric in common")
        return _capacity_alone(problem, start, base)
    x, slope, untold = _told(problem, told)
    final = problem.at(x)
    covariance = np.linalg.inv(slope.T @ slope + np.eye(len(x)))
    parameters = [
        Parameter(
            name, getattr(base, name), getattr(final, name),
            float(np.sqrt(covariance[i, i])) * problem.scales[name] * (final.step_scale if name == "step_scale" else 1),
            untold.get(name, ""),
        )
        for i, name in enumerate(PARAMETERS)
    ]  # fmt: skip
    return Fitted(
        final,
        parameters,
        _removed(problem, start, final),
        problem.run(start),
        problem.run(final),
        _notes(problem, base),
    )


def _told(problem: Problem, told: Callable[[int], object]) -> tuple[Floats, Floats, dict[str, str]]:
    """Fit, hold what was not told where it stood, and fit again, until all that moved was told."""
    names, untold = list(PARAMETERS), dict[str, str]()
    free = np.ones(len(names))
    # Host time that hides behind the device changes nothing until it is most of a step, and queues make the way from
    # one cause of a slow step to another a bumpy one: start where it stands, and where each cause alone is large.
    causes = [name for name in names if name != "frontend_s"]
    starts = [np.zeros(len(names)), *(np.where(np.array(names) == cause, 0.8, 0.0) for cause in causes)]
    while True:
        found = [descend(problem, start, free) for start in starts]
        told(problem.num_runs)
        x, slope, _ = min(found, key=lambda each: each[2])
        held = _weakest(names, x, slope, free, untold)
        if held is None:
            return x, slope, untold
        free[held] = 0.0
        starts = [x * free]


def _weakest(
    names: Sequence[str], x: Floats, slope: Floats, free: Floats, untold: dict[str, str]
) -> int | None:
    """Return the free number that was told least, None if all were told; says why in `untold`."""
    covariance = np.linalg.inv(slope.T @ slope + np.eye(len(names)))
    deviation = np.sqrt(np.diag(covariance)) * free
    vague = (deviation >= _UNTOLD) | ((deviation >= _SHARP) & (np.abs(x) < _CLEAR * deviation))
    if not np.any(vague):
        return None
    worst = int(np.argmax(np.where(vague, deviation, 0.0)))
    ties = [
        PARAMETERS[names[other]]
        for other in range(len(names))
        if other != worst
        and free[other]
        and abs(covariance[worst, other]) > _TIED * deviation[worst] * deviation[other]
    ]
    untold[names[worst]] = (
        f"these observations do not tell it from {' and '.join(ties)}"
        if ties
        else "these observations hardly depend on it"
    )
    return worst


#: Corrections in the order in which they are made, and the numbers in them.
_GROUPS = {
    "KV capacity": ("memory_frac",),
    "step time": ("step_scale",),
    "scheduler and CPU overhead": ("step_overhead_s", "sequence_overhead_s"),
    "frontend": ("frontend_s",),
}


def _removed(problem: Problem, start: Corrections, final: Corrections) -> list[Removed]:
    """Return the error that each group of corrections removes, on top of those before it and alone."""
    rows, current = [], start
    before = error_frac(problem.pairs, problem.run(start))
    for name, fields in _GROUPS.items():
        changes = {each: getattr(final, each) for each in fields}
        alone = error_frac(problem.pairs, problem.run(start.with_(**changes)))
        current = current.with_(**changes)
        after = error_frac(problem.pairs, problem.run(current))
        rows.append(Removed(name, before, after, alone))
        before = after
    return rows


def _capacity_alone(problem: Problem, start: Corrections, base: Corrections) -> Fitted:
    untold = "no latency or throughput was observed"
    parameters = [
        Parameter(name, getattr(base, name), getattr(base, name), np.inf, untold) for name in PARAMETERS
    ]
    return Fitted(base, parameters, [], problem.run(start), problem.run(base), _notes(problem, base))


def _notes(problem: Problem, base: Corrections) -> list[str]:
    """Return in words what could not be told, and where the scenario's load is not that of the observation."""
    notes = []
    if base.memory_frac is None:
        notes.append("KV capacity: no observation has num_gpu_blocks, so it stays as it was")
    for pair, found in zip(problem.pairs, problem.run(base), strict=True):
        seen = pair.observed
        for what, theirs, ours in (
            ("input tokens a request", seen.mean_input_tokens, found.mean_input_tokens),
            ("output tokens a request", seen.mean_output_tokens, found.mean_output_tokens),
            ("KV tokens a block", seen.block_size,
             pair.scenario.deployments[problem.deployment].serving_engine.block_size),
        ):  # fmt: skip
            if theirs and abs(ours / theirs - 1) > 0.05:
                notes.append(
                    f"{seen.file}: {theirs:.4g} {what}, the scenario has {ours:.4g}: is it the same load?"
                )
    return notes


def engine_yaml(fitted: Fitted, base: ServingEngine, name: str, date: str, files: Sequence[str]) -> str:
    """Return the engine with what was told, as the text of a file: `measured`, and what is not so stays as it was."""
    from io import StringIO

    from ruamel.yaml import YAML

    source = f"fitted by clustersim calibrate-from to {', '.join(files)}"
    told = {each.name: each for each in fitted.parameters if not each.untold and each.name != "step_scale"}
    corrected = fitted.corrections.engine(base)
    changes: dict[str, object] = {"name": name}
    for field_name, parameter in told.items():
        figure = getattr(corrected, field_name)
        value = float(f"{parameter.after:.4g}")
        said = f"{source}; standard deviation {parameter.deviation:.2g} s"
        changes[field_name] = figure.model_copy(
            update={"value": value, "evidence": "measured", "source": said, "date": date}
        )
    if fitted.corrections.memory_frac is not None:
        changes["memory_frac"] = float(f"{fitted.corrections.memory_frac:.6g}")
    plain = corrected.model_copy(update=changes).model_dump(mode="json", exclude_none=True)
    out = StringIO()
    yaml = YAML()
    yaml.width = 4096
    yaml.dump(plain, out)
    scale = next(each for each in fitted.parameters if each.name == "step_scale")
    lines = [f"# {base.name} as it was observed: {source}, {date}."]
    if fitted.corrections.memory_frac is not None:
        lines.append(f"# memory holds the KV blocks that the engine reports ({source}).")
    if not scale.untold and abs(scale.after - 1) > 1e-6:
        lines.append(
            f"# Not an engine's: steps take {scale.after:.3g} times the predicted (standard deviation "
            f"{scale.deviation:.2g}); measure the device or divide its rates by that."
        )
    return "\n".join(lines) + "\n" + out.getvalue()
