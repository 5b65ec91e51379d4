"""Simulate rows of measured results, each run of the table once, and pair what was measured with what is predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Any

from clustersim.errors import InputError
from clustersim.scenario.plan import plan
from clustersim.simulation import simulate
from clustersim.study.processes import deaf, workers
from clustersim.study.validation.case import Case, case_of, reason
from clustersim.study.validation.mapping import ServingRules, load_rules
from clustersim.study.validation.metrics import METRICS, Metric, metric_of
from clustersim.study.validation.roofline import Roofline, roofline
from clustersim.study.validation.rows import RefusedError, Row

Done = Callable[[int, int], None]
_KEYS = frozenset({"num_accelerators", "failed", *(metric.key for metric in METRICS.values())})


@dataclass(frozen=True)
class Prediction:
    """A row, what the simulation says of it, and what the roofline does before its constant; in the table's unit."""

    row: Row
    metric: Metric
    predicted: float
    roofline: float
    assumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A row that was not simulated, and why."""

    row: Row
    reason: str


@dataclass(frozen=True)
class _Simulated:
    metrics: dict[str, Any]
    roofline: Roofline


def predict(
    rows: Sequence[Row],
    rules: ServingRules | None = None,
    engine: str | None = None,
    jobs: int = 1,
    done: Done = lambda _done, _total: None,
) -> tuple[list[Prediction], list[Refused]]:
    """Return the rows predicted and those refused, both in the order of the table.

    `engine` is simulated in place of each row's own. Rows of one run share one simulation; `jobs` of these run at a
    time, in processes of their own, with the same result. `done(k, n)` is called after the k-th of n runs.
    """
    rules = rules or load_rules()
    cases: dict[tuple[str, ...], Case | str] = {}
    for row in rows:
        if row.run not in cases:
            cases[row.run] = _case(row, rules, engine)
    wanted = {row.run for row in rows if row.metric in METRICS}
    runs = {run: case for run, case in cases.items() if isinstance(case, Case) and run in wanted}
    found = dict(zip(runs, _simulate_all(list(runs.values()), jobs, done), strict=True))
    predicted: list[Prediction] = []
    refused: list[Refused] = []
    for row in rows:
        try:
            predicted.append(_prediction(row, cases[row.run], found.get(row.run)))
        except RefusedError as error:
            refused.append(Refused(row, str(error)))
    return predicted, refused


def _case(row: Row, rules: ServingRules, engine: str | None) -> Case | str:
    try:
        return case_of(row, rules, engine)
    except RefusedError as error:
        return str(error)


def _prediction(row: Row, case: Case | str, simulated: _Simulated | str | None) -> Prediction:
    if isinstance(case, str):
        raise RefusedError(case)
    metric = metric_of(row)
    if not isinstance(simulated, _Simulated):
        raise RefusedError(simulated or "was not simulated")
    value = metric.predicted(simulated.metrics)
    bare = metric.bare(simulated.roofline, simulated.metrics)
    return Prediction(row, metric, value, bare, case.assumes)


def _simulated(case: Case) -> _Simulated | str:
    """Return what a case gives, or why it does not run."""
    try:
        plans = plan(case.scenario)
        metrics = simulate(case.scenario).metrics
    except InputError as error:
        return reason(error)
    if metrics["failed"]:
        return "requests are longer than the KV cache that is left"
    known = {key: metrics[key] for key in _KEYS if key in metrics}
    known["num_decode_accelerators"] = plans[0].num_accelerators
    return _Simulated(known, roofline(case, plans))


def _simulate_all(cases: Sequence[Case], jobs: int, done: Done) -> list[_Simulated | str]:
    total = len(cases)
    if jobs <= 1 or total <= 1:
        found = []
        for case in cases:
            found.append(_simulated(case))
            done(len(found), total)
        return found
    results: dict[int, _Simulated | str] = {}
    with workers(min(jobs, total)) as pool:
        with deaf():
            waiting = {pool.submit(_from_plain, _plain(case)): index for index, case in enumerate(cases)}
        for future in as_completed(waiting):
            results[waiting[future]] = future.result()
            done(len(results), total)
    return [results[index] for index in range(total)]


def _plain(case: Case) -> dict[str, Any]:
    """Return a case as plain data: classes of figures cannot be pickled."""
    return {**vars(case), "scenario": case.scenario.model_dump(mode="json", exclude_unset=True)}


def _from_plain(plain: dict[str, Any]) -> _Simulated | str:
    from clustersim.scenario.schema import Scenario

    return _simulated(Case(**{**plain, "scenario": Scenario.model_validate(plain["scenario"])}))
