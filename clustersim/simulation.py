"""Run a scenario: requests arrive, routers place them, replicas serve them, on one simulated clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from simpy import Environment, Event

from clustersim.errors import InputError
from clustersim.records import REJECTED, RequestRecords, RunRecords
from clustersim.results.result import Result, summarise
from clustersim.scenario.plan import DeploymentPlan, deployment_of, plan
from clustersim.scenario.schema import Scenario
from clustersim.serving.kv_cache import KvCache
from clustersim.serving.replica import Replica
from clustersim.serving.routers import Load
from clustersim.serving.stepwise import StepwiseReplica
from clustersim.workload.generate import Requests, Sampler, generate, load_trace, whole_trace
from clustersim.workload.workload import Workload

#: progress(finished, total or None, simulated seconds)
Progress = Callable[[int, int | None, float], None]
_REPORT_EVERY = 500
_DRAW = 1024
#: A closed loop whose requests are all rejected would never end.
_MAX_REJECTED = 10_000


def simulate(scenario: Scenario, seed: int | None = None, progress: Progress | None = None) -> Result:
    """Return the result of one run of `scenario`; `seed` overrides the scenario's own.

    Raises InputError if the scenario cannot run (a model that does not fit, a trace that cannot be read).
    """
    seed = scenario.seed if seed is None else seed
    plans = plan(scenario)
    started = time.process_time()
    world = _World(scenario, seed, plans, progress)
    world.run()
    return summarise(
        scenario,
        seed,
        plans,
        world.records,
        world.runs.columns(),
        world.first_replica,
        time.process_time() - started,
    )


class _World:
    """Everything that lives while the clock runs."""

    def __init__(
        self, scenario: Scenario, seed: int, plans: list[DeploymentPlan], progress: Progress | None
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.env = Environment()
        self.records = RequestRecords(1024)
        self.runs = RunRecords()
        self.progress = progress
        self.finished = 0
        self.total: int | None = 0
        self.first_replica: list[int] = []
        self.fronts: list[_Front] = []
        for each in plans:
            self.first_replica.append(sum(p.deployment.replicas for p in plans[: each.index]))
            self.fronts.append(_Front(self, each, self.first_replica[-1]))
        self.users: dict[int, _ClosedLoop] = {}

    def run(self) -> None:
        """Issue every workload and run to the last event."""
        for index, workload in enumerate(self.scenario.workloads):
            front = self.fronts[deployment_of(self.scenario, index)]
            if workload.closed_loop is not None:
                self.users[index] = _ClosedLoop(self, front, index, workload)
                self.users[index].start()
            else:
                requests = generate(workload, self.seed, self.scenario.horizon_s)
                if self.total is not None:
                    self.total += len(requests)
                rows = self.records.extend(_columns(requests, index, front.plan.index))
                self.env.process(
                    _arrive(self.env, front, rows, (requests.arrival_s + front.delay_s).tolist())
                )
        self.env.run()
        if self.progress:
            self.progress(self.finished, self.finished, self.env.now)

    def left(self, now: float) -> None:
        """Count a request that finished or was rejected, for the progress bar."""
        self.finished += 1
        if self.progress and self.finished % _REPORT_EVERY == 0:
            self.progress(self.finished, self.total, now)

    def done(self, request: int, now: float) -> None:
        """A request finished: tell its workload if that waits for answers."""
        self.left(now)
        if self.users:
            loop = self.users.get(self.records.workload[request])
            if loop is not None:
                loop.answered(now)


class _Front:
    """A deployment: its router, its replicas, and what the router knows of them."""

    def __init__(self, world: _World, plan: DeploymentPlan, first_replica: int) -> None:
        self.world = world
        self.plan = plan
        self.records = world.records
        self.first_replica = first_replica
        deployment, memory = plan.deployment, plan.memory
        self.delay_s = deployment.serving_engine.frontend_s.value
        self.longest = min(plan.max_model_len, memory.tokens_per_rank)
        self.loads = [Load() for _ in range(deployment.replicas)]
        self.choose = deployment.router.start(self.loads)
        replica = StepwiseReplica if world.scenario.engine.mode == "stepwise" else Replica
        parallelism = deployment.parallelism
        self.replicas = [
            replica(
                first_replica + index, world.env, world.records, world.runs, deployment.scheduler, plan.step_time,
                KvCache(memory.engine.block_size, memory.num_blocks), self._finished,
                parallelism.attention_dp, parallelism.attention_dp * parallelism.pp,
            )
            for index in range(deployment.replicas)
        ]  # fmt: skip

    def submit(self, request: int, now: float) -> bool:
        """Route a request that comes through the frontend now; False for one too long to ever hold: rejected."""
        self.records.entered_s[request] = now
        tokens = self._tokens(request)
        if tokens > self.longest:
            self.records.status[request] = REJECTED
            self.world.left(now)
            return False
        index = self.choose(tokens)
        load = self.loads[index]
        load.requests += 1
        load.tokens += tokens
        replica = self.replicas[index]
        self.records.replica[request] = replica.index
        replica.submit(request, now)
        return True

    def _finished(self, request: int, now: float) -> None:
        load = self.loads[self.records.replica[request] - self.first_replica]
        load.requests -= 1
        load.tokens -= self._tokens(request)
        self.world.done(request, now)

    def _tokens(self, request: int) -> int:
        records = self.records
        tokens: int = (
            records.input_tokens[request] + records.thinking_tokens[request] + records.answer_tokens[request]
        )
        return tokens


def _arrive(env: Environment, front: _Front, rows: range, times: list[float]) -> Generator[Event, None, None]:
    """Submit requests at their times; those of one instant come in one go."""
    submit, timeout = front.submit, env.timeout
    for request, at in zip(rows, times, strict=True):
        if at > env.now:
            yield timeout(at - env.now)
        submit(request, at)


@dataclass
class _ClosedLoop:
    """Users who each wait for an answer, think, and ask again."""

    world: _World
    front: _Front
    index: int
    workload: Workload

    def start(self) -> None:
        """Let every user ask for the first time."""
        loop = self.workload.closed_loop
        assert loop is not None
        self.think_s = loop.think_time_s
        self.horizon_s = self.world.scenario.horizon_s
        trace = load_trace(self.workload)
        self.sampler = Sampler(self.workload, self.world.seed, trace)
        bound = self.workload if self.horizon_s is not None else whole_trace(self.workload, trace)
        self.limit = bound.num_requests
        self.rows: Iterator[int] = iter(())
        self.issued = 0
        if self.limit is None or self.world.total is None:
            self.world.total = None
        else:
            self.world.total += self.limit
        self.world.env.process(self._begin(loop.concurrency))

    def _begin(self, users: int) -> Generator[Event, None, None]:
        yield self.world.env.timeout(0)
        for _ in range(users):
            self._ask(0.0)

    def answered(self, now: float) -> None:
        """One user has an answer."""
        if self.think_s:
            self.world.env.process(self._think(now + self.think_s))
        else:
            self._ask(now)

    def _think(self, until: float) -> Generator[Event, None, None]:
        yield self.world.env.timeout(self.think_s)
        self._ask(until)

    def _ask(self, now: float) -> None:
        """Send a user's next request; one that is rejected is answered at once, so the user asks again."""
        for _ in range(_MAX_REJECTED):
            if self.issued == self.limit or (self.horizon_s is not None and now >= self.horizon_s):
                return
            request = self._next()
            self.issued += 1
            self.world.records.arrival_s[request] = now
            if self.front.delay_s:
                self.world.env.process(self._enter(request, now + self.front.delay_s))
                return
            if self.front.submit(request, now):
                return
        raise InputError(
            f'workload "{self.workload.name}": {_MAX_REJECTED} requests in a row are longer than the '
            f"{self.front.longest:,} tokens that a replica of {self.front.plan.deployment.name} can hold"
        )

    def _enter(self, request: int, at: float) -> Generator[Event, None, None]:
        yield self.world.env.timeout(self.front.delay_s)
        if not self.front.submit(request, at):
            self.answered(at)

    def _next(self) -> int:
        request = next(self.rows, None)
        if request is None:
            left = _DRAW if self.limit is None else min(_DRAW, self.limit - self.issued)
            drawn = self.sampler.draw(left)
            self.rows = iter(self.world.records.extend(_columns(drawn, self.index, self.front.plan.index)))
            request = next(self.rows)
        return request


def _columns(requests: Requests, workload: int, deployment: int) -> dict[str, Any]:
    count = len(requests)
    return {
        "arrival_s": requests.arrival_s,
        "input_tokens": requests.input_tokens,
        "thinking_tokens": requests.thinking_tokens,
        "answer_tokens": requests.answer_tokens,
        "tenant": requests.tenant,
        "workload": np.full(count, workload),
        "deployment": np.full(count, deployment),
    }
