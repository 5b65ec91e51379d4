"""A deployment: its router, its replicas, and what the router knows of them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from clustersim.randomness import stream
from clustersim.records import CANCELLED, REJECTED
from clustersim.scenario.plan import DeploymentPlan
from clustersim.serving.kv_cache import KvCache
from clustersim.serving.replica import Replica
from clustersim.serving.routers import Load, Targets
from clustersim.serving.stepwise import StepwiseReplica
from clustersim.workload.tasks import Call

if TYPE_CHECKING:
    from clustersim.simulation.tasks import Client
    from clustersim.simulation.world import World


class Front:
    """Where requests enter a deployment."""

    def __init__(self, world: World, plan: DeploymentPlan, first_replica: int) -> None:
        self.world = world
        self.plan = plan
        self.records = world.records
        self.first_replica = first_replica
        deployment, memory = plan.deployment, plan.memory
        self.delay_s = deployment.serving_engine.frontend_s.value
        self.longest = min(plan.max_model_len, memory.tokens_per_rank)
        self.loads = [Load() for _ in range(deployment.replicas)]
        self.num_up = len(self.loads)
        self.parked: deque[int] = deque()
        """Requests that wait for a replica to come up."""
        self.targets = Targets(
            self.loads, self.tokens, self._cached, self._session,
            input_tokens=lambda request: self.records.input_tokens[request],
            rng=stream(world.seed, deployment.name, "router"),
        )  # fmt: skip
        self.choose = deployment.router.start(self.targets)
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
        self._inbox: list[Call] = []
        self._inbox_at = -1.0

    def submit(self, request: int, now: float) -> bool:
        """Route a request that comes through the frontend now; False for one that is refused."""
        if not self.admits(request, now):
            return False
        self.route(request, now)
        return True

    def admits(self, request: int, now: float) -> bool:
        """Note that a request came through the frontend; False, and it is rejected, if no replica could hold it."""
        self.records.entered_s[request] = now
        if self.tokens(request) > self.longest:
            self.records.status[request] = REJECTED
            return False
        return True

    def route(self, request: int, now: float) -> None:
        """Send a request to the replica where its KV is, else where the router says; park it where none is up."""
        if self.num_up == 0:
            self.parked.append(request)
            return
        call = self.world.calls.get(request) if self.world.calls else None
        index = None if call is None else self._client(call).home(call)
        if index is None:
            index = self.choose(request)
        if call is not None:
            self._client(call).rest(call, index)
        self.place(request, index, now)

    def set_up(self, index: int, up: bool, now: float) -> None:
        """Let a replica take requests from now on, or none."""
        load = self.loads[index]
        if load.up == up:
            return
        load.up = up
        self.num_up += 1 if up else -1
        self._moved(index)
        while self.parked and self.num_up:
            self.route(self.parked.popleft(), now)

    def send(self, call: Call) -> None:
        """Let a task's call through the frontend; those of one instant come together."""
        now = self.world.env.now
        if self._inbox_at != now:
            self._inbox_at = now
            inbox: list[Call] = []
            self._inbox = inbox
            self.world.after(self.delay_s, lambda _event: self._deliver(inbox))
        self._inbox.append(call)

    def _deliver(self, inbox: list[Call]) -> None:
        if inbox is self._inbox:
            self._inbox_at = -1.0
        now = self.world.env.now
        for call in inbox:
            self._client(call).enter(call, now)

    def place(self, request: int, index: int, now: float) -> None:
        """Queue a request at replica number `index` of this deployment."""
        load = self.loads[index]
        load.requests += 1
        load.tokens += self.tokens(request)
        self._moved(index)
        replica = self.replicas[index]
        self.records.replica[request] = replica.index
        replica.submit(request, now)

    def cancel(self, request: int, now: float) -> None:
        """Take a request off its replica, or out of the queue for one."""
        if request in self.parked:
            self.parked.remove(request)
            records = self.records
            records.status[request] = CANCELLED
            records.finish_s[request] = now
            records.thinking_tokens[request] = records.answer_tokens[request] = 0
            return
        index = self._unload(request)
        self.replicas[index].cancel(request, now)

    def _finished(self, request: int, now: float) -> None:
        self._unload(request)
        self.world.served(request, now)

    def _unload(self, request: int) -> int:
        index = self.records.replica[request] - self.first_replica
        load = self.loads[index]
        load.requests -= 1
        load.tokens -= self.tokens(request)
        self._moved(index)
        return index

    def _moved(self, index: int) -> None:
        for watch in self.targets.watchers:
            watch(index)

    def tokens(self, request: int) -> int:
        """Return the input and output tokens of a request."""
        records = self.records
        return (
            records.input_tokens[request] + records.thinking_tokens[request] + records.answer_tokens[request]
        )

    def _cached(self, request: int, index: int) -> int:
        """Return the tokens of a request's input that are in a replica's cache."""
        call = self.world.calls.get(request)
        return 0 if call is None else self._client(call).cached(call, index)

    def _session(self, request: int) -> int:
        return self.records.task[request]

    @staticmethod
    def _client(call: Call) -> Client:
        return call.llm  # type: ignore[return-value]  # a task's calls are made by clients
