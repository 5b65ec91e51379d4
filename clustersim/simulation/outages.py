"""Failures while a fleet serves: what dies, what waits, and the repair."""

from __future__ import annotations

from bisect import insort
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from simpy import Event

from clustersim.hardware.failures import Failure, Harm, Outage, Weakening
from clustersim.randomness import stream
from clustersim.scenario.operability import extents_of

if TYPE_CHECKING:
    from clustersim.simulation.world import World


class Outages:
    """Everything that breaks in a run. All harm that one failure does begins and ends at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sites = {each.cluster: each.site for each in extents_of(world.scenario)}
        self._left: dict[str, list[float]] = {}
        """Name of channels -> the shares of their bandwidth that the failures in progress leave, least first."""

    def start(self) -> None:
        """Let the scenario's failures happen."""
        world = self.world
        for number, failure in enumerate(world.scenario.failures):
            things = failure.things(extents_of(world.scenario))
            rng = stream(world.seed, "failures", str(number))
            for at in failure.at_s:
                world.env.process(self._at(at, failure, things[int(rng.integers(len(things)))]))
            if failure.mtbf_s is not None:
                world.env.process(self._poisson(failure, things, rng))

    def _at(self, at: float, failure: Failure, thing: tuple[Harm, ...]) -> Generator[Event, None, None]:
        yield self.world.env.timeout(at)
        yield from self._fail(failure, thing)

    def _poisson(
        self, failure: Failure, things: Sequence[tuple[Harm, ...]], rng: np.random.Generator
    ) -> Generator[Event, None, None]:
        env = self.world.env
        assert failure.mtbf_s is not None
        while not self.world.over():
            yield env.timeout(rng.exponential(failure.mtbf_s / len(things)))
            env.process(self._fail(failure, things[int(rng.integers(len(things)))]))

    def _fail(self, failure: Failure, thing: tuple[Harm, ...]) -> Generator[Event, None, None]:
        if self.world.over():
            return
        victims: set[int] = set()
        for harm in thing:
            victims |= self._break(harm) if isinstance(harm, Outage) else self._weaken(harm)
        now = self.world.env.now
        for replica in sorted(victims):
            lifecycle, index = self.world.lifecycle_of(replica)
            lifecycle.die(index, now)
        yield self.world.env.timeout(failure.repair_s)
        for harm in thing:
            if isinstance(harm, Outage):
                for node in harm.nodes:
                    self.world.pool(harm.cluster).reopen(node, harm.accelerator)
            else:
                self._restore(harm)

    def _break(self, harm: Outage) -> set[int]:
        """Close what fails; return the replicas that die."""
        world, pool = self.world, self.world.pool(harm.cluster)
        dead: set[int] = set()
        for node in harm.nodes:
            pool.close(node, harm.accelerator)
            dead |= set(pool.replicas_on(node, harm.accelerator))
            if harm.memory:
                world.in_host_memory = {
                    each for each in world.in_host_memory if each[:2] != (harm.cluster, node)
                }
        return dead

    def _weaken(self, harm: Weakening) -> set[int]:
        """Take bandwidth away; return the replicas that die of it."""
        for name in self._names(harm):
            insort(self._left.setdefault(name, []), harm.frac)
            self._apply(name)
        if harm.site is not None:
            self._cut_off(harm.site, 1)
        if harm.node is None or harm.frac:
            return set()
        cluster, node = harm.node
        self.world.pool(cluster).close(node)
        return {
            replica
            for replica in self.world.pool(cluster).replicas_on(node)
            if len(self.world.places[replica].shares) > 1
        }

    def _restore(self, harm: Weakening) -> None:
        for name in self._names(harm):
            self._left[name].remove(harm.frac)
            self._apply(name)
        if harm.site is not None:
            self._cut_off(harm.site, -1)
        if harm.node is not None and not harm.frac:
            self.world.pool(harm.node[0]).reopen(harm.node[1])

    def _apply(self, name: str) -> None:
        left = self._left[name]
        self.world.network.set_frac(name, left[0] if left else 1.0)

    def _cut_off(self, site: str, change: int) -> None:
        for lifecycle in self.world.lifecycles:
            if self.sites[lifecycle.cluster] == site:
                lifecycle.set_cut_off(change, self.world.env.now)

    def _names(self, harm: Weakening) -> list[str]:
        """Return the names of the channels that it hits."""
        if harm.node is not None:
            cluster, node = harm.node
            return [f"{cluster}/{node}/nic"]
        others = sorted({site for site in self.sites.values() if site != harm.site})
        return [name for other in others for name in (f"wan/{harm.site}/{other}", f"wan/{other}/{harm.site}")]
