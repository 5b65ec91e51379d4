"""How often the deployments of a scenario are right at the problems of its tasks: from a benchmark, or as given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from clustersim.errors import InputError, unknown
from clustersim.quality.accuracy import draw_solvers, estimate
from clustersim.quality.benchmark import load_benchmark
from clustersim.quality.parameters import Parameters
from clustersim.quality.solver import Solver, solver
from clustersim.quality.success import Success
from clustersim.quality.trained_model import load_trained_model
from clustersim.scenario.schema import Deployment, Scenario
from clustersim.workload.generate import Sampler
from clustersim.workload.workload import Tasks, Workload
from clustersim.yaml_file import Key

#: Requests drawn to find a workload's mean thinking length, by a seed of its own: equal in all runs.
_DRAWN, _SEED = 4096, 0


@dataclass(frozen=True)
class Ability:
    """A deployment at the problems of a workload. Thinking tokens are the mean of plain attempts."""

    success: Success
    accuracy: float
    """Of plain attempts, mean over the problems."""
    low: float | None
    high: float | None
    """90 % band over what is not known of the quality model; None where the accuracy was given."""
    thinking_tokens: float | None
    evidence: str
    note: str


def ability_of(deployment: Deployment, workload: Workload) -> Ability | None:
    """Return how able a deployment's model is at the tasks of a workload; None where nobody knows.

    Raises InputError for an unknown benchmark or trained model, or one without an anchor.
    """
    tasks = workload.tasks
    assert tasks is not None
    given = _given(deployment, tasks)
    numbers = Parameters()
    if given is not None:
        success = Success(
            given,
            logit_per_decade=numbers.logit_per_decade_tokens,
            saturation=numbers.saturation_multiple,
            heterogeneity=numbers.heterogeneity,
        )
        return Ability(success, given, None, None, None, "assumed", "accuracy as given in the scenario")
    if tasks.benchmark is None:
        return None
    weights = _weights(deployment, tasks)
    return _from_benchmark(
        weights, tasks.benchmark, _mean_thinking(workload.model_dump_json(exclude_unset=True), workload)
    )


@lru_cache(maxsize=64)
def _from_benchmark(weights: str, benchmark: str, tokens: float) -> Ability:
    problems = load_benchmark(benchmark)
    central: Solver = solver(load_trained_model(weights), problems)
    numbers = central.parameters
    band = estimate(central, lambda each: each.mean_accuracy(tokens), draw_solvers(central))
    accuracy = float(band.mean)
    success = Success(
        accuracy,
        logit_per_decade=numbers.logit_per_decade_tokens,
        saturation=max(1.0, central.saturation_tokens / tokens),
        heterogeneity=numbers.heterogeneity,
        floor=central.benchmark.floor.value,
        cap=central.benchmark.cap.value,
    )
    return Ability(success, accuracy, float(band.low), float(band.high), tokens, band.evidence, band.note)


def _given(deployment: Deployment, tasks: Tasks) -> float | None:
    return tasks.accuracy.get(deployment.name) if isinstance(tasks.accuracy, dict) else tasks.accuracy


def _weights(deployment: Deployment, tasks: Tasks) -> str:
    """Return the name of the trained model that a deployment serves."""
    return tasks.weights.get(deployment.name, deployment.model.name)


_means: dict[str, float] = {}


def _mean_thinking(key: str, workload: Workload) -> float:
    """Return the mean thinking tokens of plain attempts, at least 1."""
    if key not in _means:
        _means[key] = max(1.0, float(Sampler(workload, _SEED).draw(_DRAWN).thinking_tokens.mean()))
    return _means[key]


def _said(data: object, name: str) -> Key:
    """Return the key under which plain data first says `name`, or no key at all."""
    inner = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ()
    for step, value in inner:
        if value == name:
            return (step,)
        if key := _said(value, name):
            return (step, *key)
    return ()


def task_problems(key: Key, workload: Workload, scenario: Scenario) -> Iterator[tuple[Key, str]]:
    """Yield what is wrong with the tasks of a workload, beyond form."""
    tasks = workload.tasks
    if tasks is None:
        return
    deployments = {deployment.name: deployment for deployment in scenario.deployments}
    own = workload.deployments or (scenario.deployments[0].name,)
    called = dict.fromkeys(tasks.strategy.deployments())
    for name in called:
        if name not in deployments:
            said = (
                *key,
                "strategy",
                *_said(tasks.strategy.model_dump(by_alias=True, exclude_unset=True), name),
            )
            yield said, unknown("deployment", name, deployments)
    for field in ("accuracy", "weights"):
        given = getattr(tasks, field)
        for name in given if isinstance(given, dict) else ():
            if name not in deployments:
                yield (*key, field, name), unknown("deployment", name, deployments)
    if not set(own) <= set(deployments):
        return
    answering = [*own, *(name for name in tasks.strategy.answering() if name in deployments)]
    for name in dict.fromkeys(answering):
        try:
            known = ability_of(deployments[name], workload) is not None
        except InputError as error:
            yield (
                (*key, "benchmark"),
                f"{error}; or say how often {name} is right: accuracy: {{{name}: 0.6}}, or what it serves: "
                f"weights: {{{name}: deepseek-r1}}",
            )
            continue
        if not known and tasks.strategy.decides_by_accuracy:
            yield (
                (*key, "strategy"),
                f"{tasks.strategy.kind} decides by which answers are right: say how often {name} is, by a `benchmark` "
                "that knows its model or by `accuracy: 0.6`",
            )
