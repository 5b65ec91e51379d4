"""Compare scenarios under the same seeds: which is better, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from clustersim.errors import InputError
from clustersim.randomness import replication_seed
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario
from clustersim.study.compare import objective
from clustersim.study.compare.comparison import Comparison
from clustersim.study.compare.entries import Entry, entries
from clustersim.study.compare.equal import equalise
from clustersim.study.compare.knob import (
    Knob,
    Runs,
    Search,
    Target,
    knobs_of,
    parse_knob,
    parse_target,
    search,
)
from clustersim.study.replicate import metrics_of, numbers

__all__ = ["Comparison", "compare"]

Metrics = Sequence[Mapping[str, Any]]
#: Runs finished, and runs there are; the second may grow while a knob is searched.
Done = Callable[[int, int], None]


def compare(
    *scenarios: Scenario | str | Path,
    replications: int = 10,
    equal: Literal["cost", "power", "gpus", "quality"] | None = None,
    seed: int = 0,
    by: str | None = None,
    metrics: Sequence[str] = (),
    budget: str | None = None,
    target: str | float | None = None,
    knobs: Sequence[str] = (),
    names: Sequence[str] = (),
    done: Done | None = None,
    processes: int | None = None,
) -> Comparison:
    """Run scenarios, files or built-in names under the same seeds and return what tells them apart.

    Replication r of every scenario has the same seed, made from `seed` and r; the scenarios' own are not used. With
    `equal` cost, power or gpus the fleets are scaled to what the first has, or to a `budget`; the demand stays. With
    `equal="quality"` each scenario's knob is set to the smallest value that surely reaches the `target`. `by` is the
    metric to rank by. Raises InputError for what cannot be compared.
    """
    if replications < 2:
        raise InputError(
            f"{replications} replication gives no interval; a comparison wants 2 at least, better 10"
        )
    found = entries(scenarios, names)
    _consistent(equal, budget, target, knobs)
    compared = [entry.scenario for entry in found]
    if by is not None:
        objective.check_objective(by, compared)
    for metric in metrics:
        objective.check_name(metric, compared, "--metric")
    seeds = [replication_seed(seed, index) for index in range(replications)]
    runs = _Runs(seeds, done, processes)
    if equal == "quality":
        return _at_quality(
            found, runs, parse_target(str(target)), [parse_knob(each) for each in knobs], by, metrics
        )
    balance = None
    if equal is not None or budget is not None:
        found, balance = equalise(found, equal, budget)
        for entry in found:
            plan(entry.scenario)
    return Comparison(found, seeds, runs.of(found), by, metrics, balance)


def _consistent(
    equal: str | None, budget: str | None, target: str | float | None, knobs: Sequence[str]
) -> None:
    if equal == "quality":
        if target is None:
            raise InputError(
                "equal quality wants a target, e.g. --target 0.8 or --target 'goodput_frac>=0.99'"
            )
        if budget is not None:
            raise InputError("--budget is for --equal cost, power or gpus; equal quality has no budget")
    elif target is not None or knobs:
        raise InputError("--target and --knob are for --equal quality")


class _Runs:
    """Runs scenarios under the seeds of a comparison, and counts them for the progress bar."""

    def __init__(self, seeds: Sequence[int], done: Done | None, processes: int | None) -> None:
        self.seeds, self.done, self.processes = seeds, done, processes
        self.finished = 0

    def of(self, found: Sequence[Entry]) -> dict[str, Metrics]:
        """Return the metrics of every replication by letter, all of them in one pool of processes."""
        jobs = [(entry.scenario, seed) for entry in found for seed in self.seeds]
        before = self.finished

        def count(num: int) -> None:
            self.finished = before + num
            if self.done:
                self.done(self.finished, before + len(jobs))

        every = metrics_of(jobs, count, self.processes)
        size = len(self.seeds)
        return {entry.letter: every[k * size : (k + 1) * size] for k, entry in enumerate(found)}


def _at_quality(
    found: Sequence[Entry],
    runs: _Runs,
    target: Target,
    knobs: Sequence[Knob],
    by: str | None,
    metrics: Sequence[str],
) -> Comparison:
    """Return the comparison of entries each at the smallest setting of its knob that reaches the target."""
    chosen: list[Entry] = []
    measured: dict[str, Metrics] = {}
    searches: dict[str, Search] = {}
    for entry, knob in zip(found, knobs_of([each.scenario for each in found], knobs), strict=True):
        tried: dict[int | None, tuple[Entry, Metrics]] = {}
        searches[entry.letter] = search(knob, target, _trial(entry, knob, runs, tried))
        setting = searches[entry.letter].found
        best, measured[entry.letter] = tried[knob.high if knob and setting is None else setting]
        chosen.append(best)
    return Comparison(chosen, runs.seeds, measured, by, metrics, None, target, searches)


def _trial(
    entry: Entry, knob: Knob | None, runs: _Runs, tried: dict[int | None, tuple[Entry, Metrics]]
) -> Callable[[int | None], Runs]:
    """Return what runs an entry at a setting of its knob and keeps the metrics in `tried`."""

    def run(setting: int | None) -> Runs:
        turned = entry
        if knob is not None:
            turned = replace(entry, scenario=entry.scenario.with_((knob.path, setting)))
            plan(turned.scenario)
        tried[setting] = (turned, runs.of([turned])[entry.letter])
        return [numbers(each) for each in tried[setting][1]]

    return run
