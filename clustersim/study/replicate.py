"""Replications: the same scenario under independent seeds, and what can be said of the mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from clustersim.metrics import confidence_interval
from clustersim.randomness import replication_seed
from clustersim.scenario.schema import Scenario
from clustersim.simulation import simulate


@dataclass(frozen=True)
class Replications:
    """Metrics of every replication, and intervals of their means."""

    seeds: list[int]
    metrics: list[dict[str, Any]]
    intervals: dict[str, dict[str, Any]]
    """Metric -> mean, low, high of the 95 % t interval, and n; None where any replication has no value."""

    def means(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Return `metrics` with the means over replications in place of the numbers of one."""
        found = {key: value for key, value in metrics.items() if key != "deployments"}
        found["deployments"] = {name: dict(values) for name, values in metrics.get("deployments", {}).items()}
        for key, interval in self.intervals.items():
            if key in found:
                found[key] = interval["mean"]
                continue
            _, name, inner = (*key.split(".", 2), "", "")[:3]
            if name in found["deployments"]:
                found["deployments"][name][inner] = interval["mean"]
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
    results: dict[int, dict[str, Any]] = {}
    workers = min(num, processes or os.cpu_count() or 1)
    if workers == 1:
        for each in seeds:
            results[each] = simulate(scenario, each).metrics
            if done:
                done(len(results))
    else:
        # Fresh processes: a fork would inherit the progress bar's thread.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            plain = scenario.model_dump(
                mode="json", exclude_unset=True
            )  # classes of figures cannot be pickled
            waiting = {pool.submit(_metrics, plain, each): each for each in seeds}
            try:
                for future in as_completed(waiting):
                    results[waiting[future]] = future.result()
                    if done:
                        done(len(results))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    metrics = [results[each] for each in seeds]
    return Replications(seeds, metrics, intervals(metrics))


def _metrics(plain: dict[str, Any], seed: int) -> dict[str, Any]:
    return simulate(Scenario.model_validate(plain), seed).metrics


def intervals(metrics: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the 95 % t interval of the mean of every number among the metrics, those of deployments included."""
    flat = [dict(_numbers(each)) for each in metrics]
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


_NOT_RANDOM = frozenset({"seed", "num_accelerators", "cpu_s", "kv_capacity_tokens", "longest_request_tokens"})


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float | None]]:
    rows: list[tuple[str, float | None]] = []
    for key, value in metrics.items():
        if key in _NOT_RANDOM or isinstance(value, bool):
            continue
        if value is None or isinstance(value, int | float):
            rows.append((prefix + key, value))
        elif key == "deployments" and isinstance(value, Mapping):
            for name, inner in value.items():
                rows += _numbers(inner, f"deployments.{name}.")
    return rows
