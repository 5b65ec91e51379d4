"""The driver: works through the tasks, survives hangs and deaths, and goes on where a run was cut.

Every result is in the append-only store before the
next task begins. When a task hangs or a rank dies, its group is killed, each node is probed alone, those that fail
are quarantined and named, and the rest goes on in a new group. A case that fails twice is given up.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from calibrate.benches import PlanName
from calibrate.case import Case
from calibrate.cluster.collectives import collective_tasks, groups_of
from calibrate.cluster.node_sweep import sweep_tasks
from calibrate.cluster.nodes import Node
from calibrate.cluster.pairs import pair_tasks, rounds_of
from calibrate.cluster.ranks import Group, RankError, probe
from calibrate.cluster.result import ClusterResult, build
from calibrate.cluster.task import SLOW_LINK, Task
from calibrate.runner import LEAST_TIMEOUT_S, TIMEOUT_FACTOR
from calibrate.store import MOST_FAILURES, Store, samples_from
from calibrate.timing import Rule


@dataclass(frozen=True)
class Level:
    """How thorough a plan is."""

    rule: Rule
    sweep: Rule
    most_call_s: float
    """Larger messages than take this long are left out; 2 to 8 MiB, which the bandwidth needs, never are."""


LEVELS: Mapping[PlanName, Level] = MappingProxyType(
    {
        "quick": Level(Rule(0.5, 0.1, least_samples=5), Rule(0.5, 0.2), 1.5),
        "default": Level(Rule(2.0, 0.3, least_samples=5), Rule(2.0, 0.5), 5.0),
        "full": Level(Rule(5.0, 1.0, least_samples=7), Rule(5.0, 1.0), 60.0),
    }
)
PROBE_TIMEOUT_S = 90.0


@dataclass
class Driver:
    """One run over one store."""

    nodes: list[Node]
    plan: PlanName
    store: Store
    ops: Sequence[str]
    sweep: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    allow_contended: bool = True
    say: Callable[[str], None] = print
    level: Level | None = None
    least_timeout_s: float = LEAST_TIMEOUT_S
    form: Callable[..., Group] = Group
    """What makes a group, and what probes a node; tests put others in their place."""
    probe: Callable[..., str] = probe

    def __post_init__(self) -> None:
        self.level = self.level or LEVELS[self.plan]
        self.all_nodes = list(self.nodes)
        self.quarantined: dict[str, str] = {}
        self.gaps: dict[str, str] = {}
        self.group: Group | None = None
        self.nccl = any(node.num_gpus for node in self.nodes)
        self.done = {key for key, _ in self.store.done(allow_contended=self.allow_contended)}
        self.failures: Counter[str] = self.store.failures()
        self.tried: Counter[str] = Counter()
        self.rates: dict[frozenset[str], float] = {}
        self.succeeded: set[tuple[str, str]] = set()

    @property
    def _level(self) -> Level:
        assert self.level is not None
        return self.level

    def run(self) -> ClusterResult:
        """Measure what is not in the store yet; ends by itself."""
        try:
            if "p2p" in self.ops and len(self.nodes) + max(node.num_ranks for node in self.nodes) > 2:
                self._stage(pair_tasks(self.nodes, self.plan, self._level.rule))
            if self.sweep and self.nodes:
                self._stage(self._sweep_tasks())
            before: list[Node] | None = None
            while before != self.nodes:  # a group of those left, once more, after a node's end
                before = list(self.nodes)
                self._stage(self._collective_tasks())
        finally:
            self._end_group()
        pairs = [pair for pairs in rounds_of(self.all_nodes) for pair in pairs] if "p2p" in self.ops else []
        return build(
            self.store.folder, [node.name for node in self.all_nodes], self.store.samples(), pairs,
            network="nccl" if self.nccl else "tcp", quarantined=self.quarantined, gaps=self.gaps,
        )  # fmt: skip

    def _collective_tasks(self) -> list[Task]:
        return collective_tasks(self.nodes, self.plan, self._level.rule, nccl=self.nccl, ops=self.ops)

    def _sweep_tasks(self) -> list[Task]:
        while self.nodes:
            group = self._form(self.env)
            if group is None:
                break
            try:
                said = group.ask("sweep_cases", {group.ranks[0]: (self.plan,)}, PROBE_TIMEOUT_S)
            except RankError as failure:
                if failure.what == "failed":
                    self.gaps["sweep"] = failure.text
                    return []
                self._recover()
                continue
            cases = [Case(**each) for each in said[group.ranks[0]]]
            return sweep_tasks(cases, group.ranks, self._level.sweep)
        return []

    def _stage(self, tasks: Iterable[Task]) -> None:
        queue = deque(task for task in tasks if not self.done.issuperset(task.keys))
        while queue:
            task = queue.popleft()
            if why := self._not_now(task):
                self.gaps[task.name] = why
                continue
            group = self._form({**self.env, **task.env})
            if group is None or not task.ranks <= set(group.ranks):
                queue.appendleft(task)
                if group is None and not self.nodes:
                    break
                continue
            timeout_s = self._timeout_s(task)
            try:
                replies = group.measure(task, timeout_s)
            except RankError as failure:
                self._failed(task, failure)
                queue.append(task)
                continue
            for reply in replies:
                self._keep(reply)
        for task in queue:
            self.gaps[task.name] = self._lost(task) or "no node is left"

    def _keep(self, reply: Mapping[str, Any]) -> None:
        samples = samples_from(reply)
        if samples.case.key in self.done:
            return  # measured before, now to load its device while the others are measured
        self.store.add(samples)
        self.done.add(samples.case.key)
        case, size = samples.case, samples.case.shape.get("bytes", 0)
        self.succeeded.add((case.op, case.path))
        middle = float(np.median(samples.seconds))
        if size >= 2**20:
            self.rates[frozenset([case.path])] = size / middle
        self.say(
            f"{case.op:15} {size:>11} B  {case.path:30} {middle * 1e3:10.3f} ms  n={len(samples.seconds)}"
        )

    def _lost(self, task: Task) -> str:
        names = {rank: node.name for node in self.all_nodes for rank in node.rank_names}
        dead = sorted({names[rank] for rank in task.ranks if names.get(rank) in self.quarantined})
        return "; ".join(f"{node}: {self.quarantined[node]}" for node in dead)

    def _rate(self, task: Task) -> float | None:
        known = [self.rates.get(frozenset([part.case.path])) for part in task.parts]
        return min((rate for rate in known if rate), default=None)

    def _timeout_s(self, task: Task) -> float:
        rate = self._rate(task) or min([SLOW_LINK, *self.rates.values()])
        return max(self.least_timeout_s, TIMEOUT_FACTOR * task.predicted_s(rate))

    def _not_now(self, task: Task) -> str:
        """Return why a task is not measured; empty if it is to be."""
        if lost := self._lost(task):
            return lost
        case = task.parts[0].case
        if any(self.failures[key] >= MOST_FAILURES for key in task.keys):
            return f"given up after {MOST_FAILURES} failures"
        if (
            self.tried[f"{case.op} {case.path}"] >= MOST_FAILURES
            and (case.op, case.path) not in self.succeeded
        ):
            return f"{case.op} failed at every size tried"
        rate = self._rate(task)
        if task.optional and rate and task.call_s(rate) > self._level.most_call_s:
            return f"one call would take over the {self._level.most_call_s:g} s of this plan"
        return ""

    def _form(self, env: Mapping[str, str]) -> Group | None:
        """Return the group of all nodes left, started with `env`; after a failure, None and fewer nodes or tries."""
        if self.group is not None and self.group.env == dict(env):
            return self.group
        self._end_group()
        if not self.nodes:
            return None
        members = [ranks for _, ranks in groups_of(self.nodes)]
        longest = max([self.least_timeout_s, *(self._timeout_s(task) for task in self._collective_tasks())])
        try:
            self.group = self.form(self.nodes, env, members, longest)
            self.store.add_session({"group": self.group.ranks, "env": dict(env), "ranks": self.group.hello})
        except RankError as failure:
            self.tried["form"] += 1
            self.say(f"no group of {len(self.nodes)} nodes: {failure.text}")
            self._recover()
            if self.tried["form"] > MOST_FAILURES + len(self.all_nodes):
                self._quarantine(
                    {node.name: f"no group could be formed: {failure.text}" for node in self.nodes}
                )
        return self.group

    def _end_group(self) -> None:
        if self.group is not None:
            self.group.kill()
            self.group = None

    def _failed(self, task: Task, failure: RankError) -> None:
        self.say(f"{task.name} {failure.what}: {failure.text}")
        found = self._recover()
        named = "; ".join(f"node {name} is out: {why}" for name, why in found.items())
        for part in task.parts:
            self.store.add_error(
                part.case, 0, failure.what, f"{failure.text}. {named or 'every node passes alone'}"
            )
            # A node's end is not the case's failure: it does not count where the node is named and gone.
            self.failures[part.case.key] += 0 if found else 1
        if failure.what == "failed" and not found:
            self.tried[f"{task.parts[0].case.op} {task.parts[0].case.path}"] += 1

    def _recover(self) -> dict[str, str]:
        """End the group, probe each node alone and leave out those that fail; returns them with the reason."""
        self._end_group()
        found = {
            node.name: why for node in self.nodes if (why := self.probe(node, self.env, PROBE_TIMEOUT_S))
        }
        self._quarantine(found)
        return found

    def _quarantine(self, found: Mapping[str, str]) -> None:
        for name, why in found.items():
            self.say(f"node {name} is quarantined: {why}")
        self.quarantined |= found
        self.nodes = [node for node in self.nodes if node.name not in self.quarantined]
