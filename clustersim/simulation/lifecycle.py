"""Replicas that come and go: cold starts, draining, death.

    off -> queued, until accelerators are free -> starting: provision, weights over the network, warm-up -> up
    up -> draining: takes no requests, finishes those it has -> off
    anything -> off, when its accelerators fail; then it is started again

A replica holds its accelerators from `starting` to the end of `draining`, and is paid for so long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clustersim.network.flow import Flow
from clustersim.records import DRAINING, OFF, QUEUED, STARTING, UP

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.world import World


class Lifecycle:
    """The replicas of one deployment, by their number in it."""

    def __init__(self, world: World, front: Front) -> None:
        self.world = world
        self.front = front
        deployment = front.plan.deployment
        self.startup = deployment.startup
        self.cluster = front.plan.cluster.name
        self.num_accelerators = deployment.parallelism.num_accelerators
        scaler = deployment.autoscaler
        self.priority = scaler.priority if scaler else 0
        self.min_replicas = scaler.min_replicas if scaler else deployment.replicas
        initial = deployment.replicas
        self.states = [UP if index < initial else OFF for index in range(len(front.replicas))]
        self._spans = [-1] * len(self.states)
        self._attempts = [0] * len(self.states)
        """Counts starts: what was begun by an earlier one is void."""
        self._loading: dict[int, Flow] = {}
        self.last_start_s: float | None = None
        self._asked_s = [0.0] * len(self.states)
        self.on_change: list[Callable[[int, float], None]] = []
        """Told of (replica, time) when a replica's state has changed."""
        for index in range(initial):
            self._span(index, UP, 0.0)

    @property
    def expected_start_s(self) -> float:
        """What a cold start takes: the last one, or the time without waiting and at the store's full rate."""
        return (
            self.startup.provision_s + self.startup.warm_up_s
            if self.last_start_s is None
            else self.last_start_s
        )

    def count(self, *states: int) -> int:
        """Return the replicas in some states."""
        return sum(state in states for state in self.states)

    def num_active(self) -> int:
        """Return the replicas that are up or on their way up."""
        return self.count(QUEUED, STARTING, UP)

    def scale_to(self, num: int, now: float) -> None:
        """Start or drain replicas until so many are up or on their way."""
        active = [index for index, state in enumerate(self.states) if state in (QUEUED, STARTING, UP)]
        for index, state in enumerate(self.states):
            if len(active) >= num:
                break
            if state in (OFF, DRAINING):
                self.start(index, now)
                active.append(index)
        order = {QUEUED: 0, STARTING: 1, UP: 2}
        spare = sorted(
            active, key=lambda index: (order[self.states[index]], self.front.loads[index].requests, -index)
        )
        for index in spare[: max(0, len(active) - num)]:
            self.drain(index, now)

    def wake(self, now: float) -> None:
        """A request waits and nothing is up: where nothing is on its way either, start one."""
        if not self.num_active():
            self.scale_to(1, now)

    def start(self, index: int, now: float) -> None:
        """Bring a replica up; one that is draining serves again."""
        if self.states[index] == DRAINING:
            self._set(index, UP, now)
            self.front.set_up(index, True)
        elif self.states[index] == OFF:
            self._asked_s[index] = now
            self._set(index, QUEUED, now)
            self.world.pool(self.cluster).ask(self, index, now)

    def placed(self, index: int, now: float) -> None:
        """Its accelerators are free and taken: provision, load, warm up."""
        self._set(index, STARTING, now)
        attempt = self._attempts[index]

        def provisioned() -> None:
            if self._attempts[index] == attempt:
                self._load_weights(index, attempt)

        self.world.after(self.startup.provision_s, lambda _event: provisioned())

    def _load_weights(self, index: int, attempt: int) -> None:
        world, number = self.world, self.front.first_replica + index
        place = world.places[number]
        model = self.front.plan.deployment.model.name
        nodes = {(place.cluster, node, model) for node in place.nodes}
        source = self.startup.weights_from
        if source == "host_memory" or (self.startup.keep_in_host_memory and nodes <= world.in_host_memory):
            route = world.network.from_host(place)
        elif source == "local_store":
            route = world.network.from_local_store(place)
        else:
            route = world.network.from_remote_store(place)

        def loaded(_now: float) -> None:
            if self._attempts[index] != attempt:
                return
            self._loading.pop(index, None)
            world.in_host_memory |= nodes
            world.after(self.startup.warm_up_s, lambda _event: self._ready(index, attempt))

        self._loading[index] = world.flows.start(route, self.front.plan.weights_bytes, loaded)

    def _ready(self, index: int, attempt: int) -> None:
        if self._attempts[index] != attempt:
            return
        now = self.world.env.now
        self.last_start_s = now - self._asked_s[index]
        self._set(index, UP, now)
        self.front.set_up(index, True)

    def drain(self, index: int, now: float) -> None:
        """Take a replica out of service once it has finished what it has; one that is not up is gone at once."""
        if self.states[index] == UP:
            self._set(index, DRAINING, now)
            self.front.set_up(index, False)
            self.idle(index, now)
        elif self.states[index] in (QUEUED, STARTING):
            self._gone(index, now)

    def idle(self, index: int, now: float) -> None:
        """A replica may have finished what it had."""
        if self.states[index] == DRAINING and self.front.is_idle(index):
            self._gone(index, now)

    def die(self, index: int, now: float) -> None:
        """A replica's accelerators fail: what it had is lost."""
        if self.states[index] in (UP, DRAINING):
            self.front.set_up(index, False)
            self.front.lost(index, now)
        if self.states[index] in (UP, DRAINING, STARTING):
            self._gone(index, now)

    def _gone(self, index: int, now: float) -> None:
        held = self.states[index] != QUEUED
        self._attempts[index] += 1
        flow = self._loading.pop(index, None)
        if flow is not None:
            self.world.flows.cancel(flow)
        pool = self.world.pool(self.cluster)
        if held:
            pool.give_back(self.front.first_replica + index, now)
        else:
            pool.forget(self, index)
        self._set(index, OFF, now)

    def _set(self, index: int, state: int, now: float) -> None:
        self.states[index] = state
        self._span(index, state, now)
        for tell in self.on_change:
            tell(index, now)

    def _span(self, index: int, state: int, now: float) -> None:
        spans = self.world.spans
        if self._spans[index] >= 0:
            spans.end_s[self._spans[index]] = now
            self._spans[index] = -1
        if state != OFF:
            row = self._spans[index] = spans.add()
            spans.start_s[row] = now
            spans.replica[row] = self.front.first_replica + index
            spans.state[row] = state
