"""Where requests enter a deployment and are routed to its replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clustersim.randomness import stream
from clustersim.records import REJECTED, SHED
from clustersim.scenario.plan import DeploymentPlan
from clustersim.serving.adapters import Adapters
from clustersim.serving.admission.accept_all import AcceptAll
from clustersim.serving.kv_cache import KvCache
from clustersim.serving.replica import Replica
from clustersim.serving.routers import Load, Targets
from clustersim.serving.stepwise import StepwiseReplica
from clustersim.simulation.cache_index import CacheIndex
from clustersim.simulation.facts import SameFacts, key_of, queue_s, replica_facts
from clustersim.simulation.gate import Gate
from clustersim.simulation.inbox import Inbox
from clustersim.simulation.offload import Offload
from clustersim.simulation.parking import Parking
from clustersim.simulation.retries import Retries

if TYPE_CHECKING:
    from clustersim.simulation.disaggregation import Handover
    from clustersim.simulation.lifecycle import Lifecycle
    from clustersim.simulation.world import World


class Front:
    """A deployment: its router, its replicas, and what the router knows of them."""

    def __init__(self, world: World, plan: DeploymentPlan, first_replica: int) -> None:
        self.world = world
        self.plan = plan
        self.records = world.records
        self.first_replica = first_replica
        deployment, memory = plan.deployment, plan.memory
        self.delay_s = deployment.serving_engine.frontend_s.value
        self.longest = min(plan.max_model_len, memory.tokens_per_rank)
        self.loads = [Load() for _ in range(plan.max_replicas)]
        self.num_up = deployment.replicas
        for load in self.loads[self.num_up :]:
            load.up = False
        self.num_entered = 0
        self.inbox = Inbox(self)
        self.parking = Parking(self)
        self.retries = Retries(self)
        self.lifecycle: Lifecycle | None = None
        self.handover: Handover | None = None
        """To the deployment that prefills for this one."""
        self.cache_index = CacheIndex(self)
        self.targets = Targets(
            self.loads, self.tokens, self.cache_index.cached, lambda request: self.records.task[request],
            input_tokens=lambda request: self.records.input_tokens[request],
            rng=stream(world.seed, deployment.name, "router"),
            holders=self.cache_index.holders,
            key=lambda request: key_of(world, request),
            facts=SameFacts(plan.max_replicas, lambda: replica_facts(self)),
            queue_s=lambda index: queue_s(self, index),
            ttft_limit_s=world.ttft_limit_s,
        )  # fmt: skip
        self._choose = deployment.router.start(self.targets)
        self._counts_cached = deployment.router.counts_cached
        self._cached: dict[int, int] = {}
        """Request on a replica -> tokens of its input that were in the cache there when it came."""
        self.gate = None if isinstance(deployment.admission, AcceptAll) else Gate(self)
        replica = StepwiseReplica if world.scenario.engine.mode == "stepwise" else Replica
        parallelism = deployment.parallelism
        self.replicas = [
            replica(
                first_replica + index, world.env, world.records, world.runs, deployment.scheduler, plan.step_time,
                KvCache(memory.engine.block_size, memory.num_blocks), self._finished,
                parallelism.attention_dp, parallelism.attention_dp * parallelism.pp, self._adapters(),
            )
            for index in range(plan.max_replicas)
        ]  # fmt: skip
        self.offload = Offload(world, self) if deployment.kv_tiers else None
        """To the tiers below its replicas' caches."""

    def _adapters(self) -> Adapters | None:
        """Return a replica's slots for adapters, where requests may ask for some."""
        lora = self.plan.deployment.lora
        if lora is None or not any(workload.adapters for workload in self.world.scenario.workloads):
            return None
        return Adapters(self.records, lora.max_loras, self.plan.adapter_load_s)

    # ---- how requests come in --------------------------------------------------------------------------------

    def submit(self, request: int, now: float) -> bool:
        """Route a request that comes through the frontend now; False for one that is refused."""
        if not self.admits(request, now):
            return False
        self.route(request, now)
        return True

    def admits(self, request: int, now: float) -> bool:
        """Note that a request came through the frontend; False, and written down, if it is refused.

        It is rejected if no replica could hold it, shed if the admission policy does not let it in.
        """
        self.records.entered_s[request] = now
        self.num_entered += 1
        if self.tokens(request) > self.longest:
            self.records.status[request] = REJECTED
            return False
        return self.gate is None or self.gate.lets_in(request, now)

    def wait_after(self, request: int) -> float:
        """Return the seconds that a user waits whose request was refused: some if it was for load."""
        shed = self.records.status[request] == SHED
        return self.plan.deployment.admission.retry_after_s if shed else 0.0

    # ---- where they go ---------------------------------------------------------------------------------------

    def route(self, request: int, now: float, left: int | None = None) -> None:
        """Send a request where another has its very context, else where the router says; park it where none is up.

        `left` are the output tokens it has still to make, where it made some before.
        """
        if self.num_up == 0 or (self.handover is not None and self.handover.prefill.num_up == 0):
            self.parking.park(request, left)
        elif self.handover is not None:
            self.handover.begin(request, now, left)
        else:
            index = self.choose(request)
            self.rest(request, index)
            self.load(request, index)
            self.records.replica[request] = self.first_replica + index
            self.queue(request, index, now, left)

    def choose(self, request: int) -> int:
        """Return the replica, by its number in this deployment, that a request goes to."""
        home = self.cache_index.home(request) if self.world.calls else None
        return self._choose(request) if home is None else home

    def rest(self, request: int, index: int) -> None:
        """Tell a replica which prefix a request rests on, and what it leaves."""
        if self.world.calls or self.world.beginnings:
            self.cache_index.rest(request, index)

    def queue(
        self, request: int, index: int, now: float, left: int | None = None, *, late: bool = False
    ) -> None:
        """Queue a routed request at a replica when what slower tiers have of its prefix is there: Replica.submit."""
        if self.offload is not None and self.offload.load(request, index, now, left):
            return
        replica = self.replicas[index]
        (replica.submit_late if late else replica.submit)(request, now, left)

    def load(self, request: int, index: int) -> None:
        """Count a request at a replica, by its number in this deployment."""
        load = self.loads[index]
        load.requests += 1
        load.tokens += self.tokens(request)
        if self._counts_cached:
            self._cached[request] = cached = self.cache_index.cached(request, index)
            load.cached_tokens += cached
        self._moved(index)

    def unload(self, request: int, replica: Replica) -> None:
        """Count it there no more."""
        index = replica.index - self.first_replica
        load = self.loads[index]
        load.requests -= 1
        load.tokens -= self.tokens(request)
        if self._counts_cached:
            load.cached_tokens -= self._cached.pop(request)
        self._moved(index)

    def _moved(self, index: int) -> None:
        for watch in self.targets.watchers:
            watch(index)

    def tokens(self, request: int) -> int:
        """Return the input and output tokens of a request."""
        records = self.records
        return (
            records.input_tokens[request] + records.thinking_tokens[request] + records.answer_tokens[request]
        )

    def replica_of(self, request: int) -> Replica:
        """Return the replica of this deployment that a request was sent to."""
        return self.replicas[self.records.replica[request] - self.first_replica]

    def _finished(self, request: int, now: float) -> None:
        self.unload(request, self.replica_of(request))
        self.world.served(request, now)

    # ---- when replicas come and go ---------------------------------------------------------------------------

    def set_up(self, index: int, up: bool) -> None:
        """Let a replica take requests from now on, or none."""
        load = self.loads[index]
        if load.up == up:
            return
        load.up = up
        self.num_up += 1 if up else -1
        self._moved(index)
        if not up:
            return
        for front in (self, *self._prefills_for()):
            front.parking.drain()
            if front.handover is not None:
                front.handover.resume(self.world.env.now)

    def lost(self, index: int, now: float) -> None:
        """A replica died: try its requests again, as often as allowed."""
        replica = self.replicas[index]
        loading = [] if self.offload is None else self.offload.lost(index)
        for request, streamed in [*replica.fail(now), *loading]:
            front = self.world.fronts[self.records.deployment[request]]
            made = None if front.handover is None else front.handover.forget(request, replica, now)
            if made is None:
                made = streamed
                front.unload(request, replica)
            front.retries.retry(request, made)

    def is_idle(self, index: int) -> bool:
        """Return whether a replica has no requests, and none are on their way to it."""
        return not self.loads[index].requests and self.replicas[index].is_idle

    def waiting(self) -> list[int]:
        """Return the requests that wait for a replica of this deployment to come up, or for their next attempt."""
        found = [*self.retries.left, *(self.parking.left if not self.num_up else ())]
        if self.handover is not None:
            found += self.handover.stuck(self)
        for front in self._prefills_for():
            assert front.handover is not None
            found += [*(front.parking.left if not self.num_up else ()), *front.handover.stuck(self)]
        return found

    def expects(self) -> bool:
        """Return whether requests will come that wait for another deployment, to prefill or to decode them."""
        fronts = [self, *self._prefills_for()]
        return any(
            each.parking.left or each.retries.left or (each.handover and each.handover.transits)
            for each in fronts
        )

    def _prefills_for(self) -> list[Front]:
        return [each for each in self.world.fronts if each.handover and each.handover.prefill is self]
