"""Simulated latencies beside observed ones as a least-squares problem, and the descent that solves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import InputError
from clustersim.scenario.schema import Scenario
from clustersim.simulation import simulate
from clustersim.study.observations import Observed
from clustersim.study.observations.corrections import PARAMETERS, Corrections

Floats = NDArray[np.float64]
#: Standard error of an observed statistic's logarithm: tails of a few hundred requests are poorly known.
_ERRORS = {"mean": 0.02, "median": 0.02, "p50": 0.02, "p90": 0.04, "p95": 0.06, "p99": 0.1}
_THROUGHPUT_ERROR = 0.02
_STEP, _MOST_ROUNDS, _SMALLEST = 0.1, 20, 1e-9
PHASES = ("frontend", "queue", "prefill", "decode")


@dataclass(frozen=True)
class Pair:
    """An observation, and the scenario that describes its load and deployment."""

    observed: Observed
    scenario: Scenario


@dataclass(frozen=True)
class Simulated:
    """Metrics under the observation's names, and the mean seconds that a request spends in each phase."""

    metrics: dict[str, float]
    phases_s: dict[str, float]
    mean_input_tokens: float
    mean_output_tokens: float


def simulated(scenario: Scenario, deployment: int) -> Simulated:
    """Return what the simulator says of all requests that finish, the warm-up included, as a client counts them."""
    result = simulate(scenario)
    rows = result.requests
    name = scenario.deployments[deployment].name
    rows = rows[(rows["status"] == "finished") & (rows["deployment"] == name)]
    if len(rows) == 0:
        raise InputError(f"no request of the scenario finishes on {name}")
    columns = {
        name: rows[name].to_numpy(dtype=float) for name in rows.columns if name.endswith(("_s", "_tokens"))
    }
    arrival, entered, taken, first, finish = (
        columns[f"{name}_s"] for name in ("arrival", "entered", "scheduled", "first_token", "finish")
    )
    output = columns["thinking_tokens"] + columns["answer_tokens"]
    several = output > 1
    decode, gaps = (finish - first)[several], (output - 1)[several]
    samples = {
        "ttft": first - arrival,
        "tpot": decode / gaps,
        "e2el": finish - arrival,
        "queue": taken - entered,
    }
    metrics: dict[str, float] = {}
    for what, seconds in samples.items():
        if len(seconds):
            metrics[f"mean_{what}_ms"] = float(seconds.mean()) * 1e3
            for stat, share in (("median", 50), ("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
                metrics[f"{stat}_{what}_ms"] = float(np.percentile(seconds, share)) * 1e3
    if gaps.sum() > 0:
        metrics["mean_itl_ms"] = float(decode.sum() / gaps.sum()) * 1e3
    length = float(finish.max() - arrival.min())
    if length > 0:
        metrics |= {
            "request_throughput": len(rows) / length,
            "output_throughput": float(output.sum()) / length,
        }
    parts = dict(
        zip(PHASES, (entered - arrival, taken - entered, first - taken, finish - first), strict=True)
    )
    phases = {phase: float(seconds.mean()) for phase, seconds in parts.items()}
    return Simulated(metrics, phases, float(columns["input_tokens"].mean()), float(output.mean()))


def compared(observed: Observed, found: Simulated) -> dict[str, tuple[float, float]]:
    """Return (observed, simulated) of the metrics that both have and that are above zero."""
    return {
        name: (value, found.metrics[name])
        for name, value in observed.metrics.items()
        if value > 0 and found.metrics.get(name, 0.0) > 0
    }


def error_frac(pairs: Sequence[Pair], found: Sequence[Simulated]) -> float:
    """Return the mean absolute error over all metrics of all observations."""
    errors = [
        abs(ours / theirs - 1)
        for pair, each in zip(pairs, found, strict=True)
        for theirs, ours in compared(pair.observed, each).values()
    ]
    return float(np.mean(errors)) if errors else float("nan")


class Problem:
    """The least-squares problem in units of the priors: x = 0 is the scenario as it stands."""

    def __init__(self, pairs: Sequence[Pair], deployment: int, base: Corrections) -> None:
        self.pairs, self.deployment, self.base = pairs, deployment, base
        tpot = self._typical("tpot", 20.0)
        ttft = self._typical("ttft", 200.0)
        batch = max(1.0, _mean_batch(pairs, tpot))
        self.scales = {
            "step_scale": 0.5, "step_overhead_s": tpot, "sequence_overhead_s": tpot / batch, "frontend_s": ttft
        }  # fmt: skip
        self.num_runs = 0
        self._known: dict[Corrections, list[Simulated]] = {}

    def _typical(self, what: str, otherwise_ms: float) -> float:
        names = [f"{stat}_{what}_ms" for stat in ("mean", "median", "p50")] + ["mean_itl_ms"] * (
            what == "tpot"
        )
        found = [
            pair.observed.metrics[name]
            for pair in self.pairs
            for name in names
            if name in pair.observed.metrics
        ]
        return float(np.median(found)) * 1e-3 if found else otherwise_ms * 1e-3

    def at(self, x: Floats) -> Corrections:
        """Return the corrections at a point; times do not fall below zero."""
        values = {}
        for name, value in zip(PARAMETERS, x, strict=True):
            start = getattr(self.base, name)
            if name == "step_scale":
                values[name] = start * float(np.exp(self.scales[name] * value))
            else:
                values[name] = max(0.0, start + self.scales[name] * float(value))
        return self.base.with_(**values)

    def run(self, corrections: Corrections) -> list[Simulated]:
        """Return every scenario simulated with the corrections; each point is simulated once."""
        if corrections not in self._known:
            self.num_runs += len(self.pairs)
            self._known[corrections] = [
                simulated(corrections.apply(pair.scenario, self.deployment), self.deployment)
                for pair in self.pairs
            ]
        return self._known[corrections]

    def residuals(self, x: Floats) -> Floats:
        """Return log simulated over observed, in standard errors."""
        found = self.run(self.at(x))
        rows = []
        for pair, each in zip(self.pairs, found, strict=True):
            for name, (theirs, ours) in compared(pair.observed, each).items():
                error = _ERRORS.get(name.split("_", 1)[0], _THROUGHPUT_ERROR)
                rows.append(np.log(ours / theirs) / error)
        return np.array(rows)

    def jacobian(self, x: Floats, here: Floats) -> Floats:
        """Return the residuals' derivatives by forward differences, (residuals, parameters)."""
        columns = []
        for index in range(len(x)):
            moved = x.copy()
            moved[index] += _STEP
            there = self.residuals(moved)
            columns.append((there - here) / _STEP if len(there) == len(here) else np.zeros(len(here)))
        return np.stack(columns, axis=1)


def _mean_batch(pairs: Sequence[Pair], tpot_s: float) -> float:
    rates = [
        p.observed.metrics["output_throughput"] for p in pairs if "output_throughput" in p.observed.metrics
    ]
    return float(np.median(rates)) * tpot_s if rates else 8.0


def descend(problem: Problem, start: Floats, free: Floats) -> tuple[Floats, Floats, float]:
    """Return point, derivatives and cost of the best fit from a start (Levenberg and Marquardt, with priors)."""
    x, damping = start.copy(), 1e-2
    here = problem.residuals(x)
    cost = float(here @ here + x @ x)
    slope = problem.jacobian(x, here) * free
    for _ in range(_MOST_ROUNDS):
        gradient, curve = slope.T @ here + x * free, slope.T @ slope + np.eye(len(x))
        step = -np.linalg.solve(curve + damping * np.diag(np.diag(curve)), gradient)
        there = _inside(problem, x + step * free)
        found = problem.residuals(there)
        new = float(found @ found + there @ there) if len(found) == len(here) else np.inf
        if new < cost:
            small = cost - new < 1e-4 * max(cost, _SMALLEST)
            x, here, cost, damping = there, found, new, max(damping / 5, 1e-6)
            slope = problem.jacobian(x, here) * free
            if small:
                break
        else:
            damping *= 8
            if damping > 1e6:
                break
    return x, slope, cost


def _inside(problem: Problem, x: Floats) -> Floats:
    """Return the nearest point at which no time is below zero."""
    lowest = [
        -np.inf if name == "step_scale" else -getattr(problem.base, name) / problem.scales[name]
        for name in PARAMETERS
    ]
    return np.maximum(x, lowest)
