"""What happens to a fleet while it serves: autoscaling, failures and repairs, rolling updates."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from simpy import Event

from clustersim.hardware.failures import Extent, Failure, Outage
from clustersim.randomness import stream
from clustersim.records import UP
from clustersim.scenario.operation import Update
from clustersim.scenario.schema import Scenario
from clustersim.serving.autoscalers import Autoscaler, Seen
from clustersim.simulation.lifecycle import Lifecycle

if TYPE_CHECKING:
    from clustersim.simulation.world import World


def operated(scenario: Scenario) -> bool:
    """Return whether replicas of a scenario ever come or go."""
    scaled = any(deployment.autoscaler for deployment in scenario.deployments)
    return bool(scaled or scenario.failures or scenario.updates)


def operate(world: World) -> None:
    """Start what operates the fleet. All of it ends when the workloads have."""
    for lifecycle in world.lifecycles:
        lifecycle.front.lifecycle = lifecycle
        scaler = lifecycle.front.plan.deployment.autoscaler
        if scaler is not None:
            world.env.process(_autoscale(world, lifecycle, scaler))
    for number, failure in enumerate(world.scenario.failures):
        _fail(world, number, failure)
    for update in world.scenario.updates:
        world.env.process(_update(world, update))


def _autoscale(world: World, lifecycle: Lifecycle, scaler: Autoscaler) -> Generator[Event, None, None]:
    want = scaler.start()
    front = lifecycle.front
    wanted: list[tuple[float, int]] = []
    came = 0
    while not world.over():
        yield world.env.timeout(scaler.interval_s)
        now = world.env.now
        waiting = [*front.parked, *front.retrying]
        seen = Seen(
            now,
            lifecycle.num_active(),
            lifecycle.count(UP),
            front.num_outstanding(),
            sum(load.tokens for load in front.loads) + sum(front.tokens(request) for request in waiting),
            front.num_entered - came,
            lifecycle.expected_start_s,
        )
        came = front.num_entered
        least = scaler.min_replicas if seen.outstanding_requests == 0 else max(1, scaler.min_replicas)
        number = min(scaler.max_replicas, max(least, want(seen)))
        wanted = [each for each in wanted if each[0] > now - scaler.scale_down_after_s]
        wanted.append((now, number))
        lifecycle.scale_to(max(each for _, each in wanted), now)


def _fail(world: World, number: int, failure: Failure) -> None:
    extents = [
        Extent(cluster.name, fleet.site.name, cluster.count, cluster.node.count)
        for fleet in world.scenario.fleet
        for cluster in fleet.clusters
        if failure.cluster in (None, cluster.name)
    ]
    things = failure.things(extents)
    rng = stream(world.seed, "failures", str(number))
    for at in failure.at_s:
        world.env.process(_outage(world, at, failure.repair_s, things[int(rng.integers(len(things)))]))
    if failure.mtbf_s is not None:
        world.env.process(_poisson(world, failure, things, rng))


def _poisson(
    world: World, failure: Failure, things: Sequence[tuple[Outage, ...]], rng: np.random.Generator
) -> Generator[Event, None, None]:
    assert failure.mtbf_s is not None
    while not world.over():
        yield world.env.timeout(rng.exponential(failure.mtbf_s / len(things)))
        if not world.over():
            world.env.process(_outage(world, 0.0, failure.repair_s, things[int(rng.integers(len(things)))]))


def _outage(
    world: World, delay_s: float, repair_s: float, outages: tuple[Outage, ...]
) -> Generator[Event, None, None]:
    if delay_s:
        yield world.env.timeout(delay_s)
    now = world.env.now
    for outage in outages:
        pool = world.pool(outage.cluster)
        for node in outage.nodes:
            if outage.network_frac < 1.0:
                world.network.set_frac(f"{outage.cluster}/{node}/nic", outage.network_frac)
                continue
            pool.close(node, outage.accelerator)
            for replica in pool.replicas_on(node, outage.accelerator):
                lifecycle, index = world.lifecycle_of(replica)
                lifecycle.die(index, now)
                lifecycle.start(index, now)
    yield world.env.timeout(repair_s)
    for outage in outages:
        for node in outage.nodes:
            if outage.network_frac < 1.0:
                world.network.set_frac(f"{outage.cluster}/{node}/nic", 1.0)
            else:
                world.pool(outage.cluster).reopen(node, outage.accelerator, world.env.now)


def _update(world: World, update: Update) -> Generator[Event, None, None]:
    lifecycle = world.lifecycles[world.deployments[update.deployment]]
    yield world.env.timeout(update.at_s)
    todo = [index for index, state in enumerate(lifecycle.states) if state == UP]
    for start in range(0, len(todo), update.max_unavailable):
        group = set(todo[start : start + update.max_unavailable])
        done = world.env.event()

        def changed(index: int, now: float, group: set[int] = group, done: Event = done) -> None:
            if index not in group:
                return
            if lifecycle.states[index] == 0:
                lifecycle.start(index, now)
            elif lifecycle.states[index] == UP:
                group.discard(index)
                if not group and not done.triggered:
                    done.succeed()

        lifecycle.on_change.append(changed)
        for index in sorted(group):
            lifecycle.drain(index, world.env.now)
        yield done
        lifecycle.on_change.remove(changed)
