"""A deployment: its router, its replicas, and what the router knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clustersim.records import REJECTED
from clustersim.scenario.plan import DeploymentPlan
from clustersim.serving.kv_cache import KvCache
from clustersim.serving.replica import Replica
from clustersim.serving.routers import Load
from clustersim.serving.stepwise import StepwiseReplica
from clustersim.workload.tasks import Call, Context

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

        self._inbox: list[tuple[Call, Context, Client, bool]] = []
        self._inbox_at = -1.0

    def submit(self, request: int, now: float) -> bool:
        """Route a request that comes through the frontend now; False for one too long to ever hold: rejected."""
        if not self.admits(request, now):
            return False
        self.place(request, self.choose(self._tokens(request)), now)
        return True

    def admits(self, request: int, now: float) -> bool:
        """Note that a request came through the frontend; False, and it is rejected, if no replica could hold it."""
        self.records.entered_s[request] = now
        if self._tokens(request) > self.longest:
            self.records.status[request] = REJECTED
            return False
        return True

    def send(self, call: Call, context: Context, client: Client, keep: bool) -> None:
        """Let a task's call through the frontend; those of one instant come together."""
        now = self.world.env.now
        if self._inbox_at != now:
            self._inbox_at = now
            inbox: list[tuple[Call, Context, Client, bool]] = []
            self._inbox = inbox
            self.world.after(self.delay_s, lambda _event: self._deliver(inbox))
        self._inbox.append((call, context, client, keep))

    def _deliver(self, inbox: list[tuple[Call, Context, Client, bool]]) -> None:
        if inbox is self._inbox:
            self._inbox_at = -1.0
        now = self.world.env.now
        for call, context, client, keep in inbox:
            client.enter(call, context, keep, now)

    def place(self, request: int, index: int, now: float) -> None:
        """Queue a request at replica number `index` of this deployment."""
        load = self.loads[index]
        load.requests += 1
        load.tokens += self._tokens(request)
        replica = self.replicas[index]
        self.records.replica[request] = replica.index
        replica.submit(request, now)

    def cancel(self, request: int, now: float) -> None:
        """Take a request off its replica."""
        index = self._unload(request)
        self.replicas[index].cancel(request, now)

    def _finished(self, request: int, now: float) -> None:
        self._unload(request)
        self.world.served(request, now)

    def _unload(self, request: int) -> int:
        index = self.records.replica[request] - self.first_replica
        load = self.loads[index]
        load.requests -= 1
        load.tokens -= self._tokens(request)
        return index

    def _tokens(self, request: int) -> int:
        records = self.records
        tokens: int = (
            records.input_tokens[request] + records.thinking_tokens[request] + records.answer_tokens[request]
        )
        return tokens
