"""Everything that lives while the clock runs."""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from simpy import Event
from simpy.events import NORMAL

from clustersim.clock import Clock
from clustersim.network.flows import Flows
from clustersim.network.interconnect import Interconnect
from clustersim.network.place import Place
from clustersim.records import (
    LoadRecords,
    RequestRecords,
    RunRecords,
    SpanRecords,
    TaskRecords,
    TransferRecords,
)
from clustersim.scenario.placement import Vacancies, place, vacancies
from clustersim.scenario.plan import DeploymentPlan, deployments_of
from clustersim.scenario.schema import Scenario
from clustersim.serving.tiers import Tier
from clustersim.simulation.closed_loop import ClosedLoop
from clustersim.simulation.disaggregation import connect
from clustersim.simulation.facts import ttft_limits
from clustersim.simulation.front import Front
from clustersim.simulation.gateway import Gateway
from clustersim.simulation.lifecycle import Lifecycle
from clustersim.simulation.operations import operate, operated
from clustersim.simulation.pool import Pool
from clustersim.simulation.prefixes import Beginnings
from clustersim.simulation.source import RequestSource, SharedSource, Source
from clustersim.simulation.tasks import TaskSource
from clustersim.workload.generate import generate, load_trace
from clustersim.workload.prefixes import prefix_table
from clustersim.workload.tasks import Call
from clustersim.workload.traces import Trace
from clustersim.workload.workload import Workload

#: progress(finished, total or None, simulated seconds)
Progress = Callable[[int, int | None, float], None]
_REPORT_EVERY = 500


class World:
    """One run: the clock, the records, a front a deployment, and a source of requests or tasks a workload."""

    def __init__(
        self, scenario: Scenario, seed: int, plans: list[DeploymentPlan], progress: Progress | None
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.env = Clock()
        self.records = RequestRecords(1024)
        self.tasks = TaskRecords(16)
        self.transfers = TransferRecords(16)
        self.spans = SpanRecords(16)
        self.kv_loads = LoadRecords(16)
        self.kv_stores: dict[tuple[str, str, str], Tier] = {}
        """(cluster, model, format) -> what the remote store has of its KV."""
        self.flows = Flows(self.env)
        self.in_host_memory: set[tuple[str, int, str, str]] = set()
        """(cluster, node, model, format) of weights that a node has in memory."""
        self.runs = RunRecords()
        self.progress = progress
        self.finished = 0
        self.num_sent = 0
        """Requests and tasks that arrive, whatever becomes of others."""
        self.total: int | None = 0
        self.first_replica: list[int] = []
        self.fronts: list[Front] = []
        for each in plans:
            self.first_replica.append(sum(p.max_replicas for p in plans[: each.index]))
            self.fronts.append(Front(self, each, self.first_replica[-1]))
        self.plans = plans
        connect(self, self.fronts)
        self.lifecycles: list[Lifecycle] = []
        if operated(scenario):
            self.lifecycles = [Lifecycle(self, front) for front in self.fronts]
        self.deployments = {each.deployment.name: each.index for each in plans}
        self.calls: dict[int, Call] = {}
        """Request -> the call of a task that waits for it."""
        self.beginnings: dict[int, Beginnings] = {}
        """Workload -> what its inputs have in common."""
        self.users: dict[int, ClosedLoop] = {}
        """Workload -> the users who wait for its answers."""

    @cached_property
    def vacancies(self) -> dict[str, Vacancies]:
        """The free accelerators of every cluster."""
        return vacancies(cluster for fleet in self.scenario.fleet for cluster in fleet.clusters)

    @cached_property
    def places(self) -> dict[int, Place]:
        """Which accelerators each replica has that holds some."""
        found = {}
        for each, places in zip(self.plans, place(self.plans, self.vacancies), strict=True):
            first = self.first_replica[each.index]
            found.update({first + index: here for index, here in enumerate(places)})
        return found

    @cached_property
    def network(self) -> Interconnect:
        """What transfers pass."""
        scenario = self.scenario
        clusters = [(cluster, fleet.site) for fleet in scenario.fleet for cluster in fleet.clusters]
        return Interconnect(self.flows, clusters, scenario.wan)

    @cached_property
    def pools(self) -> dict[str, Pool]:
        """The accelerators of every cluster, and who waits for some."""
        _ = self.places
        return {name: Pool(self, free) for name, free in self.vacancies.items()}

    def pool(self, cluster: str) -> Pool:
        """Return the accelerators of a cluster."""
        return self.pools[cluster]

    def run(self) -> None:
        """Issue every workload and run to the last event."""
        for index, workload in enumerate(self.scenario.workloads):
            trace = load_trace(workload)
            self._share_beginnings(index, workload, trace)
            source = self._source(index, workload)
            if workload.closed_loop is not None:
                self.users[index] = ClosedLoop(self, source, index, workload)
                self.users[index].start()
            else:
                requests = generate(workload, self.seed, self.scenario.horizon_s, trace)
                self.num_sent += len(requests)
                if self.total is not None:
                    self.total += len(requests)
                rows = source.add(requests)
                times = (requests.arrival_s + source.delay_s).tolist()
                if times:
                    _arrive(self.env, source, rows, times)
        if self.lifecycles:
            operate(self)
        with _without_gc():
            self.env.run()
        if self.progress:
            self.progress(self.finished, self.finished, self.env.now)

    def _share_beginnings(self, index: int, workload: Workload, trace: Trace | None) -> None:
        table = prefix_table(workload, trace, self.seed)
        if table is not None:
            first = sum(len(other.radix.ends) for other in self.beginnings.values())
            self.beginnings[index] = Beginnings(table, first)

    def _source(self, index: int, workload: Workload) -> Source:
        fronts = [self.fronts[number] for number in deployments_of(self.scenario, index)]
        gateway = Gateway(self, index, fronts) if len(fronts) > 1 else None
        if workload.tasks is not None:
            return TaskSource(self, fronts, index, workload, gateway)
        if gateway is not None:
            return SharedSource(self, gateway, index, workload)
        return RequestSource(self, fronts[0], index, workload)

    @cached_property
    def ttft_limits_s(self) -> list[list[float]]:
        """The promised time to first token by workload and tenant, inf for none."""
        return ttft_limits(self.scenario)

    def ttft_limit_s(self, request: int) -> float:
        """Return the promised time to first token of a request, inf for none."""
        records = self.records
        return self.ttft_limits_s[records.workload[request]][records.tenant[request]]

    def over(self) -> bool:
        """Return whether all that the workloads send is done."""
        loops, end = self.users.values(), self.scenario.horizon_s
        if not (end is not None and self.env.now >= end) and any(loop.issued != loop.limit for loop in loops):
            return False
        return self.finished >= self.num_sent + sum(loop.issued for loop in loops)

    def lifecycle_of(self, replica: int) -> tuple[Lifecycle, int]:
        """Return the deployment's lifecycle and its number there of a replica."""
        which = bisect_right(self.first_replica, replica) - 1
        return self.lifecycles[which], replica - self.first_replica[which]

    def left(self, workload: int, now: float, wait_s: float = 0.0) -> None:
        """A request or task that a workload sent is over: count it, and tell the user who waits for it.

        One who was turned away waits for at least `wait_s` seconds.
        """
        self.finished += 1
        if self.progress and self.finished % _REPORT_EVERY == 0:
            self.progress(self.finished, self.total, now)
        if self.users:
            loop = self.users.get(workload)
            if loop is not None:
                loop.answered(now, wait_s)

    def served(self, request: int, now: float) -> None:
        """A request got its last token."""
        if self.calls:
            call = self.calls.pop(request, None)
            if call is not None:
                call.first_answer_s = self.records.first_answer_s[request]
                call.finish_s = now
                call.resolve(call)
                return
        self.left(self.records.workload[request], now)

    def after(self, seconds: float, act: Callable[[Event], None]) -> None:
        """Call `act` in so many simulated seconds."""
        self.env.call_at(self.env.now + seconds, NORMAL, act)


@contextmanager
def _without_gc() -> Iterator[None]:
    """Keep the garbage collector out: a run frees everything by reference counts, and looking costs a third of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _arrive(clock: Clock, source: Source, rows: range, times: list[float]) -> None:
    """Start rows at their times; those of one instant come in one go."""
    begin, last, nexts = source.begin, len(times), 0

    def come(_event: Event) -> None:
        nonlocal nexts
        now = clock.now
        while nexts < last and (at := times[nexts]) <= now:
            nexts += 1
            begin(rows[nexts - 1], at)
        if nexts < last:
            clock.call_at(times[nexts], NORMAL, come)

    clock.call_at(times[0], NORMAL, come)
