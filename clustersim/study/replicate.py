"""Replications: the same scenario under independent seeds, and what can be said of the mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Any

from clustersim.metrics import confidence_interval
from clustersim.randomness import replication_seed
from clustersim.scenario.schema import Scenario
from clustersim.simulation import simulate
from clustersim.study.processes import deaf, workers


@dataclass(frozen=True)
class Replications:
    """Metrics of every replication, and intervals of their means."""

    seeds: list[int]
    metrics: list[dict[str, Any]]
    intervals: dict[str, dict[str, Any]]
    """Metric -> mean, low, high of the 95 % t interval, and n; None where any replication has no value."""

    def means(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Return `metrics` with the means over replications in place of the numbers of one."""
        return self._means(metrics, "")

    def _means(self, metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found = dict(metrics)
        for key, value in metrics.items():
            if f"{prefix}{key}" in self.intervals:
                found[key] = self.intervals[f"{prefix}{key}"]["mean"]
            elif key in _BY_NAME and isinstance(value, Mapping):
                found[key] = {
                    name: self._means(inner, f"{prefix}{key}.{name}.") for name, inner in value.items()
                }
        return found


def replicate(
    scenario: Scenario,
    num: int,
    seed: int | None = None,
    done: Callable[[int], None] | None = None,
    processes: int | None = None,
) -> Replications:
    """Run `num` replications, several at a time in processes of their own; `done(k)` after the k-th.

    Replication 0 has the scenario's own seed; compared scenarios share seeds, so that they share randomness.
    """
    base = scenario.seed if seed is None else seed
    seeds = [replication_seed(base, index) for index in range(num)]
    metrics = metrics_of([(scenario, each) for each in seeds], done, processes)
    return Replications(seeds, metrics, intervals(metrics))


def metrics_of(
    runs: Sequence[tuple[Scenario, int]],
    done: Callable[[int], None] | None = None,
    processes: int | None = None,
) -> list[dict[str, Any]]:
    """Return the metrics of runs of scenarios under seeds, several at a time in processes; `done(k)` after the k-th."""
    number = min(len(runs), processes or os.cpu_count() or 1)
    if number <= 1:
        found = []
        for scenario, seed in runs:
            found.append(simulate(scenario, seed).metrics)
            if done:
                done(len(found))
        return found
    results: dict[int, dict[str, Any]] = {}
    with workers(number) as pool:
        with deaf():
            waiting = {
                pool.submit(_metrics, _plain(scenario), seed): index
                for index, (scenario, seed) in enumerate(runs)
            }
        for future in as_completed(waiting):
            results[waiting[future]] = future.result()
            if done:
                done(len(results))
    return [results[index] for index in range(len(runs))]


def _plain(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as plain data: classes of figures cannot be pickled."""
    return scenario.model_dump(mode="json", exclude_unset=True)


def _metrics(plain: dict[str, Any], seed: int) -> dict[str, Any]:
    return simulate(Scenario.model_validate(plain), seed).metrics


def intervals(metrics: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the 95 % t interval of the mean of every number among the metrics, of deployments and tasks too."""
    flat = [numbers(each) for each in metrics]
    found: dict[str, dict[str, Any]] = {}
    for key in flat[0]:
        values = [each.get(key) for each in flat]
        known = [value for value in values if value is not None]
        if len(known) < len(flat):
            found[key] = {"mean": None, "low": None, "high": None, "n": len(known)}
            continue
        low, high = confidence_interval(known)
        found[key] = {"mean": sum(known) / len(known), "low": low, "high": high, "n": len(known)}
    return found


#: Metrics that hold the same metrics by name: of each deployment, of each workload of tasks.
_BY_NAME = ("deployments", "tasks")
#: Metrics that hold several numbers of one mechanism.
GROUPS = ("kv_transfer", "kv_offload")
_NOT_RANDOM = frozenset({"seed", "num_accelerators", "cpu_s", "kv_capacity_tokens", "longest_request_tokens"})


def numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers among metrics that chance moves, by key.

    "p99_ttft_ms", "deployments.chat.p99_ttft_ms", "deployments.chat.kv_transfer.p99_s".
    """
    return dict(_numbers(metrics))


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float | None]]:
    rows: list[tuple[str, float | None]] = []
    for key, value in metrics.items():
        if key in _NOT_RANDOM or isinstance(value, bool):
            continue
        if value is None or isinstance(value, int | float):
            rows.append((prefix + key, value))
        elif key in _BY_NAME and isinstance(value, Mapping):
            for name, inner in value.items():
                rows += _numbers(inner, f"{key}.{name}.")
        elif key in GROUPS and isinstance(value, Mapping):
            rows += _numbers(value, f"{prefix}{key}.")
    return rows
