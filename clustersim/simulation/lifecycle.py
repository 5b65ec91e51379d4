"""Replicas that come and go: cold starts, draining, death.

    off -> queued, until accelerators are free -> starting: provision, weights over the network, warm-up -> up
    up -> draining: takes no requests, finishes those it has -> off, or starting where it is renewed
    anything -> off, when its accelerators fail; if it was wanted it is queued again

A replica holds its accelerators from `starting` to the end of `draining`, and is paid for so long. What it had in its
KV cache is gone when it leaves them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from simpy import Event

from clustersim.network.flow import Flow
from clustersim.network.interconnect import host_link
from clustersim.records import CUT_OFF, DRAINING, OFF, QUEUED, STARTING, UP

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.world import World

#: Who goes first when there are too many: those that serve nobody yet.
_SPARE_FIRST = {QUEUED: 0, STARTING: 1, DRAINING: 2, UP: 3}


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
        self.cut_off = 0
        """Failures that keep requests from reaching it."""
        self.last_start_s: float | None = None
        self.on_change: list[Callable[[int, float], None]] = []
        """Told of (replica, time) when a replica's state has changed."""
        self._renewing: set[int] = set()
        """Replicas that drain to be started anew."""
        self._reclaimed: set[int] = set()
        """Replicas that drain for another deployment: they do not come back."""
        self._waking = False
        self._spans = [-1] * len(self.states)
        self._attempts = [0] * len(self.states)
        """Counts starts: what was begun by an earlier one is void."""
        self._loading: dict[int, Flow] = {}
        self._placed_s = [0.0] * len(self.states)
        self.weights = (deployment.model.name, deployment.formats.weights)
        for index, replica in enumerate(front.replicas):
            replica.on_idle = partial(self._was_idle, index)
        front.targets.watchers.append(self._load_changed)
        for index in range(initial):
            self._span(index, UP, 0.0)
            self._remember(index)

    @property
    def expected_start_s(self) -> float:
        """Seconds of a cold start on free accelerators: as the last one, or with the weights' way to itself.

        That weights may still be in a node's memory is not foreseen.
        """
        if self.last_start_s is not None:
            return self.last_start_s
        startup, cluster = self.startup, self.front.plan.cluster
        host = host_link(cluster.node)
        rates = [] if host is None else [host[0] * self.num_accelerators]
        if startup.weights_from != "host_memory":
            from_remote = startup.weights_from == "remote_store"
            link = cluster.remote_store if from_remote else cluster.local_store
            nodes = -(-self.num_accelerators // cluster.node.count)
            total = cluster.remote_store_total_bytes_per_s if from_remote else None
            rates += [link.bandwidth_bytes_per_s.value * nodes, inf if total is None else total]
        loading_s = self.front.plan.weights_bytes / min(rates, default=inf)
        return startup.provision_s + loading_s + startup.warm_up_s

    def count(self, *states: int) -> int:
        """Return the replicas in some states."""
        return sum(state in states for state in self.states)

    def is_active(self, index: int) -> bool:
        """Return whether a replica is up or on its way up."""
        return self.states[index] in (QUEUED, STARTING, UP) or index in self._renewing

    def num_active(self) -> int:
        """Return the replicas that are up or on their way up."""
        return sum(map(self.is_active, range(len(self.states))))

    def num_to_spare(self) -> int:
        """Return the replicas with accelerators beyond the least that there must be."""
        return max(0, self.count(STARTING, UP) - self.min_replicas)

    def num_leaving(self) -> int:
        """Return the replicas that give back their accelerators as soon as they have finished what they have."""
        return self.count(DRAINING) - len(self._renewing)

    # ---- what an operator does -------------------------------------------------------------------------------

    def scale_to(self, num: int, now: float) -> None:
        """Start or drain replicas until so many are up or on their way; those that drain still come back first."""
        missing = num - self.num_active()
        if missing > 0:
            back = [index for index, state in enumerate(self.states)
                    if state == DRAINING and not self.is_active(index) and index not in self._reclaimed]  # fmt: skip
            off = [index for index, state in enumerate(self.states) if state == OFF]
            for index in [*back, *off][:missing]:
                self.start(index, now)
        for index in self._spare()[: max(0, -missing)]:
            self.drain(index, now)

    def _spare(self) -> list[int]:
        """Return the active replicas, who can best be spared first."""
        return sorted(
            (index for index in range(len(self.states)) if self.is_active(index)),
            key=lambda index: (_SPARE_FIRST[self.states[index]], self.front.loads[index].requests, -index),
        )

    def wake(self) -> None:
        """A request waits and nothing is up: where nothing is on its way either, start one."""

        def look(_event: Event) -> None:
            self._waking = False
            if not self.num_active():
                self.scale_to(1, self.world.env.now)

        if not self._waking:
            self._waking = True
            self.world.after(0.0, look)

    def start(self, index: int, now: float) -> None:
        """Bring a replica up; one that is draining serves again."""
        if self.states[index] == DRAINING:
            self._renewing.discard(index)
            self._set(index, UP, now)
        elif self.states[index] == OFF:
            self._set(index, QUEUED, now)
            self.world.pool(self.cluster).ask(self, index)

    def drain(self, index: int, now: float) -> None:
        """Take a replica out of service once it has finished what it has; one that is not up is gone at once."""
        self._renewing.discard(index)
        if self.states[index] == UP:
            self._take_out(index, now)
        elif self.states[index] in (QUEUED, STARTING):
            self._gone(index, now)

    def renew(self, index: int, now: float) -> None:
        """Take a replica that is up out of service, and start it anew on its accelerators."""
        if self.states[index] == UP:
            self._renewing.add(index)
            self._take_out(index, now)

    def _take_out(self, index: int, now: float) -> None:
        self._set(index, DRAINING, now)
        self._was_idle(index, now)

    def reclaim(self, now: float) -> None:
        """Drain a replica for good, that another deployment gets its accelerators."""
        index = next(index for index in self._spare() if self.states[index] in (STARTING, UP))
        if self.states[index] == UP:
            self._reclaimed.add(index)
        self.drain(index, now)

    def die(self, index: int, now: float) -> None:
        """A replica's accelerators fail: what it had is lost. It is started elsewhere if it was wanted."""
        wanted = self.is_active(index)
        if self.states[index] in (UP, DRAINING):
            self.states[index] = OFF  # whoever is told of a load must not route to it
            self._set_up(index)
            self.front.lost(index, now)
        self._gone(index, now)
        if wanted:
            self.start(index, now)

    def set_cut_off(self, change: int, now: float) -> None:
        """Count a failure that keeps requests from reaching the deployment, or its repair (-1)."""
        self.cut_off += change
        for index, state in enumerate(self.states):
            if state == UP:
                self._span(index, UP, now)
                self._set_up(index)

    # ---- how it comes about ----------------------------------------------------------------------------------

    def placed(self, index: int, now: float) -> None:
        """Its accelerators are free and taken: provision, load, warm up."""
        self._placed_s[index] = now
        self._set(index, STARTING, now)
        attempt = self._attempts[index]

        def provisioned(_event: Event) -> None:
            if self._attempts[index] == attempt:
                self._load_weights(index, attempt)

        self.world.after(self.startup.provision_s, provisioned)

    def _load_weights(self, index: int, attempt: int) -> None:
        world = self.world
        place = world.places[self.front.first_replica + index]
        source = self.startup.weights_from
        if source == "host_memory" or (
            self.startup.keep_in_host_memory and self._copies(index) <= world.in_host_memory
        ):
            route = world.network.from_host(place)
        elif source == "local_store":
            route = world.network.from_local_store(place)
        else:
            route = world.network.from_remote_store(place)

        def loaded(_now: float) -> None:
            if self._attempts[index] != attempt:
                return
            self._loading.pop(index, None)
            self._remember(index)
            world.after(self.startup.warm_up_s, lambda _event: self._ready(index, attempt))

        self._loading[index] = world.flows.start(route, self.front.plan.weights_bytes, loaded)

    def _copies(self, index: int) -> set[tuple[str, int, str, str]]:
        place = self.world.places[self.front.first_replica + index]
        return {(place.cluster, node, *self.weights) for node in place.nodes}

    def _remember(self, index: int) -> None:
        """Its weights are in the memory of its nodes from now on."""
        if self.startup.keep_in_host_memory:
            self.world.in_host_memory |= self._copies(index)

    def _ready(self, index: int, attempt: int) -> None:
        if self._attempts[index] != attempt:
            return
        now = self.world.env.now
        self.last_start_s = now - self._placed_s[index]
        self._set(index, UP, now)

    def _load_changed(self, index: int) -> None:
        """Requests came or went: the last that a draining replica waits for may be given up before it has a step."""
        if self.states[index] == DRAINING and not self.front.loads[index].requests:
            self._was_idle(index, self.world.env.now)

    def _was_idle(self, index: int, _now: float) -> None:
        """A replica has nothing to do: if it drains, see after all that happens now whether it is done."""
        if self.states[index] == DRAINING:
            self.world.after(0.0, lambda _event: self._drained(index))

    def _drained(self, index: int) -> None:
        if self.states[index] != DRAINING or not self.front.is_idle(index):
            return
        now = self.world.env.now
        if index in self._renewing:
            self._renewing.discard(index)
            self._attempts[index] += 1
            self._forget_kv(index, now)
            self.placed(index, now)
        else:
            self._gone(index, now)

    def _gone(self, index: int, now: float) -> None:
        pool = self.world.pool(self.cluster)
        if self.states[index] == QUEUED:
            pool.forget(self, index)
        else:
            self._attempts[index] += 1
            flow = self._loading.pop(index, None)
            if flow is not None:
                self.world.flows.cancel(flow)
            self._forget_kv(index, now)
            pool.give_back(self.front.first_replica + index)
        self._renewing.discard(index)
        self._reclaimed.discard(index)
        self._set(index, OFF, now)

    def _forget_kv(self, index: int, now: float) -> None:
        lost = self.front.replicas[index].fail(now)
        assert not lost, f"requests {lost} on a replica that left"

    def _set_up(self, index: int) -> None:
        self.front.set_up(index, self.states[index] == UP and not self.cut_off)

    def _set(self, index: int, state: int, now: float) -> None:
        self.states[index] = state
        self._span(index, state, now)
        self._set_up(index)
        for tell in list(self.on_change):
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
            spans.state[row] = CUT_OFF if state == UP and self.cut_off else state
