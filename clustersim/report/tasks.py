"""What there is to say of a workload's tasks; the console and the HTML page share every word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from clustersim.report import words
from clustersim.results.result import Result
from clustersim.results.served import limits_of
from clustersim.results.tasks import task_limits
from clustersim.scenario.plan import DeploymentPlan, deployments_of
from clustersim.units import MILLI, duration, si
from clustersim.workload.strategies import Strategy
from clustersim.workload.verifier import Verifier
from clustersim.workload.workload import Tasks, Workload

#: Latencies of a task by key; a task has neither a first token of its own nor a time per token.
LATENCIES: Mapping[str, str] = {
    "ttfo": "time to the first token of the answer",
    "e2el": "time to the end of the task",
}
_REGIMES = ("STABLE", "NEAR_SATURATION", "OVERLOADED")


@dataclass(frozen=True)
class TaskView:
    """One workload that has tasks, and how they went."""

    result: Result
    index: int

    @property
    def workload(self) -> Workload:
        """The workload."""
        return self.result.scenario.workloads[self.index]

    @property
    def tasks(self) -> Tasks:
        """What makes its arrivals tasks."""
        assert self.workload.tasks is not None
        return self.workload.tasks

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Its metrics, as in result.json under "tasks"."""
        found: Mapping[str, Any] = self.result.metrics["tasks"][self.workload.name]
        return found

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The tasks that arrived in the window and ended, one row each."""
        frame = self.result.tasks
        start, end = self.result.metrics["window_s"]
        mine = (frame["workload"] == self.workload.name) & frame["finish_s"].notna()
        found: pd.DataFrame = frame[mine & (frame["arrival_s"] >= start) & (frame["arrival_s"] <= end)]
        return found

    @cached_property
    def plans(self) -> list[DeploymentPlan]:
        """The deployments that its tasks send requests to, its own first."""
        own = [self.result.plans[index] for index in deployments_of(self.result.scenario, self.index)]
        called = set(self.tasks.strategy.deployments()) - {plan.deployment.name for plan in own}
        return [*own, *(plan for plan in self.result.plans if plan.deployment.name in called)]

    @property
    def regime(self) -> str:
        """The worst regime among its deployments."""
        every = self.result.metrics["deployments"]
        regimes: list[str] = [every[plan.deployment.name]["regime"] for plan in self.plans]
        return max(regimes, key=_REGIMES.index)

    def latency(self, name: str, stat: str) -> str:
        """Return a latency of tasks with its unit; "unbounded" where a deployment that they use is overloaded."""
        if not len(self.frame):
            return words.UNKNOWN
        if self.regime == "OVERLOADED":
            return words.UNBOUNDED
        value = self.metrics[f"{stat}_task_{name}_ms"]
        return words.UNKNOWN if value is None else duration(value * MILLI)

    @property
    def promises(self) -> list[dict[str, float]]:
        """The different promises about tasks made to its tenants: limits in seconds by latency."""
        found: list[dict[str, float]] = []
        for tenant in range(len(self.workload.all_tenants)):
            limits = task_limits(limits_of(self.workload.slo_of(tenant)))
            if limits and limits not in found:
                found.append(limits)
        return found


def views(result: Result) -> list[TaskView]:
    """Return the workloads that have tasks; none where no task came."""
    workloads = result.scenario.workloads if "tasks" in result.metrics else []
    return [TaskView(result, index) for index, workload in enumerate(workloads) if workload.tasks is not None]


# ---- the strategy in words -----------------------------------------------------------------------------------------


def strategy(part: Strategy) -> str:
    """Return a strategy in words: "best of n (n 8), checked by reward, which accepts 90 % of right and ..."."""
    dump = part.model_dump(mode="json")
    plain, parts = [], []
    for name, field in type(part).model_fields.items():
        value, key = getattr(part, name), (field.alias or name)
        told = name in part.model_fields_set or (isinstance(value, int) and not isinstance(value, bool))
        if isinstance(value, Verifier):
            parts.append(f"checked by {verifier(value)}")
        elif isinstance(value, Strategy):
            if name in part.model_fields_set:
                parts.append(f"{key.replace('_', ' ')}: {strategy(value)}")
        elif name != "kind" and told and isinstance(dump[key], str | int | float):
            plain.append(f"{key.replace('_', ' ')} {_setting(dump[key])}")
    return "".join([words.kind(part), f" ({', '.join(plain)})" if plain else "", *(f", {p}" for p in parts)])


def _setting(value: str | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def verifier(part: Verifier) -> str:
    """Return a verifier in words."""
    who = part.to or ("a program" + (f" of {duration(part.latency_s)}" if part.latency_s else ""))
    rates = (
        f"{words.percent(part.true_accept)} of right and {words.percent(part.false_accept)} of wrong answers"
    )
    return f"{who}, which accepts {rates}"


# ---- figures in words ----------------------------------------------------------------------------------------------


def right(view: TaskView) -> str:
    """Return the share of tasks answered rightly with its interval: "77 % [72 to 82 %]"; "n/a" where nobody knows."""
    share, limits = view.metrics["accuracy"], view.metrics["accuracy_95"]
    if share is None:
        return words.UNKNOWN
    return f"{share * 100:.0f} % [{limits[0] * 100:.0f} to {limits[1] * 100:.0f} %]"


def joules(value: float | None) -> str:
    """Return an energy with its unit: "65.9 kJ"."""
    return words.UNKNOWN if value is None else si(value, "J")


def goodput(view: TaskView) -> str:
    """Return the share of tasks answered within what was promised of them."""
    share = view.metrics["task_goodput_frac"]
    if share is None:
        return "no SLO of tasks was given" if not view.promises else "nothing measured"
    found = view.promises
    what = words.slo(found[0]) if len(found) == 1 else "each tenant's SLO"
    return f"{share * 100:.1f} % of tasks within {what}"


def share(value: float | None) -> str:
    """Return a share as a percentage, "n/a" for none."""
    return words.UNKNOWN if value is None else words.percent(value)


def facts(view: TaskView) -> list[str]:
    """Return the key figures, short, in the order in which the console shows them."""
    m = view.metrics
    rows = [
        f"{words.usd(m['usd_per_task'])} a task",
        f"{words.usd(m['usd_per_solved'])} a task solved",
        f"{joules(m['joules_per_task'])} a task",
        f"{joules(m['joules_per_solved'])} a task solved",
        f"{words.number(m['requests_per_task'])} requests",
        f"{words.number(m['useful_tokens_per_task'])} tokens used",
        f"{words.number(m['wasted_tokens_per_task'])} thrown away ({share(m['wasted_frac'])})",
    ]
    if m["check_tokens_per_task"]:
        rows.append(f"{words.number(m['check_tokens_per_task'])} of checks")
    return [*rows, f"{share(m['cached_frac'])} of prompts cached, over all calls of these tasks"]


def answer(view: TaskView) -> Iterator[str]:
    """Yield the sentences that answer for a workload of tasks, the most important first."""
    m = view.metrics
    if not m["tasks_ended"]:
        yield f"No task of {view.workload.name} that arrived in the measured window ended: there is nothing to measure."
        return
    told = strategy(view.tasks.strategy)
    known = [_costs(m["usd_per_task"]), _answered(view), _thrown(m["wasted_frac"])]
    yield f"{told[0].upper()}{told[1:]}: {known[0]}, {known[1]}, and {known[2]}."
    if m["usd_per_solved"] is not None:
        yield f"A task solved takes {words.usd(m['usd_per_solved'])} and {joules(m['joules_per_solved'])}."
    if view.regime == "OVERLOADED":
        yield "A deployment that it uses does not keep up, so how long tasks take grows for as long as the run lasts."
    elif m["tasks_ended"] > m["tasks_given_up"]:
        begins, done = view.latency("ttfo", "p50"), view.latency("e2el", "p50")
        starts = "" if begins == done else f"; the answer begins after {begins} in the median"
        yield f"Half of the tasks are done within {done}, 99 % within {view.latency('e2el', 'p99')}{starts}."
    if m["task_goodput_frac"] is not None:
        yield f"{goodput(view)}."
    if m["tasks_given_up"]:
        yield f"{m['tasks_given_up']:,} of {m['tasks_ended']:,} tasks were given up."


def _costs(usd: float | None) -> str:
    return "what a task costs is not known" if usd is None else f"a task costs {words.usd(usd)}"


def _answered(view: TaskView) -> str:
    if view.metrics["accuracy"] is None:
        return "how often its answer is right nobody said"
    plain = view.metrics["mean_success"]
    return f"{right(view)} are right" + ("" if plain is None else f" (one plain attempt: {_percent(plain)})")


def _thrown(frac: float | None) -> str:
    return f"{share(frac)} of the tokens are thrown away" if frac else "no token is thrown away"


def _percent(value: float) -> str:
    return f"{value * 100:.0f} %"


def tiles(view: TaskView) -> Iterator[tuple[str, str, str, str]]:
    """Yield (label, value, unit, small print) of the key numbers."""
    m = view.metrics
    limits = m["accuracy_95"]
    interval = (
        "nobody said how often"
        if limits is None
        else f"{_percent(limits[0])} to {_percent(limits[1])}, 95 % interval"
    )
    yield "Answered rightly", words.UNKNOWN if limits is None else _percent(m["accuracy"]), "", interval
    yield "Cost", words.usd(m["usd_per_task"]), "a task", f"{words.usd(m['usd_per_solved'])} a task solved"
    yield "Energy", joules(m["joules_per_task"]), "a task", f"{joules(m['joules_per_solved'])} a task solved"
    for name, label in (("ttfo", "Answer starts (TTFO)"), ("e2el", "Task done (E2EL)")):
        small = f"median; p99 {view.latency(name, 'p99')}" if m["tasks_ended"] else ""
        yield label, view.latency(name, "p50"), "", small
    yield "Tasks ended", words.number(m["task_throughput"]), "tasks/s", goodput(view)
    yield (
        "Requests", words.number(m["requests_per_task"]), "a task",
        f"{share(m['cached_frac'])} of prompt tokens were in the KV cache, over all calls of these tasks, "
        "those after the window too",
    )  # fmt: skip
    yield (
        "Tokens used", words.number(m["useful_tokens_per_task"]), "a task",
        f"of {words.number(m['output_tokens_per_task'])} made",
    )  # fmt: skip
    yield (
        "Thrown away",
        share(m["wasted_frac"]),
        "",
        f"{words.number(m['wasted_tokens_per_task'])} tokens a task",
    )
    yield (
        "Given up", f"{m['tasks_given_up']:,}", "tasks",
        f"of {m['tasks_ended']:,}; checks take {words.number(m['check_tokens_per_task'])} tokens a task",
    )  # fmt: skip
