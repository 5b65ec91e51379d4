"""What happens to a fleet while it serves: autoscaling, and rolling updates. Failures are in `outages`."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from simpy import Event

from clustersim.errors import InputError
from clustersim.records import OFF, UP
from clustersim.scenario.operation import Update
from clustersim.scenario.schema import Scenario
from clustersim.serving.autoscalers import Autoscaler, Seen
from clustersim.serving.autoscalers.scheduled import Scheduled
from clustersim.simulation.lifecycle import Lifecycle
from clustersim.simulation.outages import Outages
from clustersim.units import DAY_S

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.world import World

#: Requests that wait for so long, beyond every repair and every schedule's period, while no replica takes a step, wait
#: in vain: forecasts of a day or a week have come round by then.
_IN_VAIN_S = 8 * DAY_S


def operated(scenario: Scenario) -> bool:
    """Return whether replicas of a scenario ever come or go."""
    scaled = any(deployment.autoscaler for deployment in scenario.deployments)
    return bool(scaled or scenario.failures or scenario.updates)


def operate(world: World) -> None:
    """Start what operates the fleet. All of it ends when the workloads have."""
    for lifecycle in world.lifecycles:
        lifecycle.front.lifecycle = lifecycle
    watch = _Watch(world)
    for lifecycle in world.lifecycles:
        scaler = lifecycle.front.plan.deployment.autoscaler
        if scaler is not None:
            world.env.process(_autoscale(world, lifecycle, scaler, watch))
    Outages(world).start()
    for update in world.scenario.updates:
        world.env.process(_update(world, update))


class _Watch:
    """Sees to it that a run ends though autoscalers look on for ever."""

    def __init__(self, world: World) -> None:
        self.world = world
        repairs = [failure.repair_s for failure in world.scenario.failures]
        scalers = (deployment.autoscaler for deployment in world.scenario.deployments)
        periods = [scaler.period_s for scaler in scalers if isinstance(scaler, Scheduled)]
        self.patience_s = _IN_VAIN_S + max([0.0, *repairs, *periods])
        self.seen: tuple[int, ...] = ()
        self.since_s = 0.0

    def look(self) -> None:
        """Raise InputError where requests wait in vain."""
        world = self.world
        seen = (world.finished, world.runs.num)
        if seen != self.seen or not any(front.waiting() for front in world.fronts):
            self.seen, self.since_s = seen, world.env.now
        elif world.env.now - self.since_s > self.patience_s:
            for front in world.fronts:
                waiting = front.waiting()
                if waiting:
                    raise InputError(
                        f'{len(waiting)} requests wait for replicas of "{front.plan.deployment.name}" that get no '
                        f'accelerators of "{front.plan.cluster.name}", or not for as long as a cold start, though '
                        "nobody else needs any; give the cluster more nodes, or the other deployments there fewer "
                        "replicas or a higher priority number"
                    )


def _autoscale(
    world: World, lifecycle: Lifecycle, scaler: Autoscaler, watch: _Watch
) -> Generator[Event, None, None]:
    want = scaler.start()
    front = lifecycle.front
    wanted: list[tuple[float, int]] = [(0.0, front.plan.deployment.replicas)]
    came = 0
    while not world.over():
        yield world.env.timeout(scaler.interval_s)
        watch.look()
        now = world.env.now
        seen = _look(lifecycle, came)
        came += seen.arrived_requests
        needed = seen.outstanding_requests or front.expects()
        least = max(1, scaler.min_replicas) if needed else scaler.min_replicas
        number = min(scaler.max_replicas, max(least, want(seen)))
        wanted = [each for each in wanted if each[0] > now - scaler.scale_down_after_s]
        wanted.append((now, number))
        lifecycle.scale_to(max(each for _, each in wanted), now)


def _look(lifecycle: Lifecycle, came: int) -> Seen:
    """Return what an autoscaler sees of a deployment; `came` requests had come when it last looked."""
    front, world = lifecycle.front, lifecycle.world
    waiting = front.waiting()
    up = [replica for replica, load in zip(front.replicas, front.loads, strict=True) if load.up]
    return Seen(
        now_s=world.env.now,
        replicas=lifecycle.num_active(),
        up=len(up),
        outstanding_requests=int(sum(load.requests for load in front.loads)) + len(waiting),
        outstanding_tokens=int(sum(load.tokens for load in front.loads)) + sum(map(front.tokens, waiting)),
        waiting_requests=len(waiting) + sum(len(replica.waiting) for replica in front.replicas),
        kv_frac=sum(each.blocks_used(world.env.now) / each.kv.num_blocks for each in up) / max(1, len(up)),
        arrived_requests=_entered(world, front) - came,
        start_s=lifecycle.expected_start_s,
    )


def _entered(world: World, front: Front) -> int:
    """Return the requests that came so far, those included whose prompts it prefills for others."""
    served = [each for each in world.fronts if each.handover is not None and each.handover.prefill is front]
    return sum(each.num_entered for each in (front, *served))


def _update(world: World, update: Update) -> Generator[Event, None, None]:
    """Renew the replicas that are up at the time, a few at a time; one that goes by itself counts as renewed."""
    lifecycle = world.lifecycles[world.deployments[update.deployment]]
    yield world.env.timeout(update.at_s)
    todo = [index for index, state in enumerate(lifecycle.states) if state == UP]
    for start in range(0, len(todo), update.max_unavailable):
        if world.over():
            return
        group = {
            index for index in todo[start : start + update.max_unavailable] if lifecycle.states[index] == UP
        }
        done = world.env.event()
        left = set(group)

        def changed(index: int, _now: float, left: set[int] = left, done: Event = done) -> None:
            if lifecycle.states[index] in (UP, OFF):
                left.discard(index)
            if not left and not done.triggered:
                done.succeed()

        for index in sorted(group):
            lifecycle.renew(index, world.env.now)
        if group:
            lifecycle.on_change.append(changed)
            yield done
            lifecycle.on_change.remove(changed)
