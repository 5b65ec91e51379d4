"""Which way each metric is better, and which metric a comparison is ranked by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from clustersim.errors import InputError, unknown
from clustersim.metrics import PERCENTILES
from clustersim.scenario.schema import Scenario
from clustersim.study.replicate import GROUPS

Better = Literal["lower", "higher"]
_LOWER = frozenset(
    {
        "failed", "num_preemptions", "mean_queue", "queued_frac", "utilisation", "energy_kwh", "it_energy_kwh",
        "mean_power_w", "joules_per_output_token", "joules_per_output_mtok", "joules_per_task", "joules_per_solved",
        "usd", "usd_per_output_mtok", "usd_per_request", "usd_per_task", "usd_per_solved", "gco2e",
        "gco2e_per_output_mtok", "water_l", "step_time_rel_error", "tasks_given_up", "wasted_frac",
        "wasted_tokens_per_task", "output_tokens_per_task", "shed", "shed_frac", "retries", "lost", "lost_tokens",
        "gpu_hours", "mean_replicas_on", "cold_starts", "cold_start_s", "accelerator_wait_s", "adapter_loads",
        "kv_transfer.p50_s", "kv_transfer.p99_s", "kv_offload.p50_s", "kv_offload.p99_s",
    }
)  # fmt: skip
_HIGHER = frozenset(
    {
        "completed", "request_throughput", "request_goodput", "goodput_frac", "output_throughput",
        "total_token_throughput", "tokens_per_s_per_gpu", "tokens_per_s_per_user", "capacity_requests_per_s", "mfu",
        "mbu", "accuracy", "mean_success", "task_goodput_frac", "task_throughput", "tasks_ended", "cached_frac",
        "prefix_hit_frac", "availability_frac",
    }
)  # fmt: skip
_NEITHER = frozenset(
    {
        "duration", "num_requests", "total_input", "total_output", "total_thinking", "mean_batch", "mean_kv_frac",
        "idle_accelerators", "num_tasks", "requests_per_task", "useful_tokens_per_task", "check_tokens_per_task",
        "kv_transfer.bytes",
    }
)  # fmt: skip
_STATS = ("mean", "median", "std", *(f"p{p}" for p in PERCENTILES))
_LATENCIES = ("ttft", "ttfo", "tpot", "e2el", "queue", "itl", "task_ttfo", "task_e2el")
_KNOWN = _LOWER | _HIGHER | _NEITHER | {f"{stat}_{latency}_ms" for stat in _STATS for latency in _LATENCIES}
#: Metrics shown if nothing else is asked for; all the others are in comparison.json.
SHOWN = (
    "accuracy", "usd_per_solved", "usd_per_output_mtok", "joules_per_output_token", "gco2e_per_output_mtok",
    "goodput_frac", "capacity_requests_per_s", "utilisation", "tokens_per_s_per_gpu", "p50_ttft_ms", "p99_ttft_ms",
    "p50_ttfo_ms", "p50_tpot_ms", "p99_tpot_ms", "p50_e2el_ms", "p99_e2el_ms", "p50_task_e2el_ms", "p99_task_e2el_ms",
)  # fmt: skip
#: What is ranked by where nothing is said: the first that every scenario has a value of. Fleets that are equal, or were
#: made equal in cost, power or GPUs, cost about the same at the same demand: what they could serve tells them apart.
_DEFAULTS: Mapping[bool, Sequence[str]] = {
    False: ("usd_per_solved", "usd_per_output_mtok", "joules_per_output_token"),
    True: ("usd_per_solved", "capacity_requests_per_s", "goodput_frac", "mean_e2el_ms"),
}


def _parts(metric: str) -> tuple[str, str]:
    """Return ("deployments.NAME", "tasks.NAME" or "", the metric itself): names may have dots, and so have groups."""
    prefix, _, last = metric.rpartition(".")
    head, _, group = prefix.rpartition(".")
    named = head in ("deployments", "tasks")  # then that is a name, whatever it looks like
    return (head, f"{group}.{last}") if group in GROUPS and not named else (prefix, last)


def better(metric: str) -> Better | None:
    """Return which way a metric is better; None for one that has no better side. Deployments' as the whole's."""
    last = _parts(metric)[1]
    if last in _LOWER or last.endswith("_ms"):
        return "lower"
    return "higher" if last in _HIGHER else None


def check_name(metric: str, scenarios: Sequence[Scenario], option: str) -> None:
    """Refuse, before anything runs, what no run of these scenarios can have; raises InputError with the nearest."""
    prefix, last = _parts(metric)
    if prefix:
        shared = set.intersection(*map(_prefixes, scenarios))
        if prefix not in shared:
            problem = unknown("deployment or workload in every scenario", prefix, shared)
            raise InputError(f"{option} {metric}: {problem}")
    if last not in _KNOWN:
        raise InputError(
            f"{option} {metric}: {unknown('metric', last, _KNOWN, 'docs/background/metrics.md')}"
        )


def _prefixes(scenario: Scenario) -> set[str]:
    deployments = {f"deployments.{each.name}" for each in scenario.deployments}
    return deployments | {f"tasks.{each.name}" for each in scenario.workloads}


def check_objective(metric: str, scenarios: Sequence[Scenario]) -> None:
    """Refuse a metric that cannot be ranked by: an unknown one, or one that is neither better high nor low."""
    check_name(metric, scenarios, "--by")
    if better(metric) is None:
        raise InputError(
            f"--by {metric}: more of it is neither better nor worse; rank e.g. by {', '.join(SHOWN[:6])}"
        )


def check(metric: str, known: Collection[str], option: str) -> str:
    """Return a metric if every scenario has it; raises InputError with the nearest."""
    if metric not in known:
        raise InputError(f"{option} {metric}: {unknown('metric', metric, known)}")
    return metric


def objective(
    asked: str | None, known: Collection[str], with_value: Collection[str], equal_fleets: bool
) -> str:
    """Return the metric to rank by: the one asked for, or the first default that has a value.

    Raises InputError for one that not every scenario has.
    """
    if asked is not None:
        if better(check(asked, known, "--by")) is None:
            ranked = ", ".join(name for name in SHOWN if name in known)
            raise InputError(
                f"--by {asked}: more of it is neither better nor worse; rank by one of: {ranked}"
            )
        return asked
    choices = _DEFAULTS[equal_fleets]
    return next((name for name in choices if name in with_value), choices[-1])
