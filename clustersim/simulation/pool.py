"""The accelerators of one cluster, and the replicas that wait for some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clustersim.network.place import Place, Share
from clustersim.records import UP
from clustersim.scenario.placement import Vacancies

if TYPE_CHECKING:
    from clustersim.simulation.lifecycle import Lifecycle
    from clustersim.simulation.world import World


class Pool:
    """Who waits is served by priority, then first come first served; one that does not fit lets smaller ones by.

    Where nothing is free, a deployment reclaims accelerators from one whose priority number is higher and that has
    more replicas than its least: one of these is drained.
    """

    def __init__(self, world: World, vacancies: Vacancies) -> None:
        self.world = world
        self.vacancies = vacancies
        self._waiting: list[tuple[Lifecycle, int]] = []
        self._broken: dict[int, dict[int, int]] = {}
        """Node -> accelerator -> failures that keep it out."""
        self._closed: dict[int, int] = {}
        """Node -> failures that keep it closed."""

    def ask(self, lifecycle: Lifecycle, index: int, now: float) -> None:
        """Queue a replica for accelerators."""
        self._waiting.append((lifecycle, index))
        self._waiting.sort(key=lambda each: each[0].priority)
        self._serve(now)
        if (lifecycle, index) in self._waiting:
            self._reclaim(lifecycle, now)

    def forget(self, lifecycle: Lifecycle, index: int) -> None:
        """A replica does not want any more."""
        self._waiting.remove((lifecycle, index))

    def give_back(self, replica: int, now: float) -> None:
        """A replica has left its accelerators."""
        place = self.world.places.pop(replica)
        shares = []
        for share in place.shares:
            broken = self._broken.get(share.node, {})
            whole = tuple(each for each in share.accelerators if each not in broken)
            if whole:
                shares.append(Share(share.node, whole))
        if shares:
            self.vacancies.give_back(Place(place.cluster, tuple(shares)))
        self._serve(now)

    def replicas_on(self, node: int, accelerator: int | None = None) -> list[int]:
        """Return the replicas with an accelerator of a node, or with this one."""
        return [
            replica
            for replica, place in self.world.places.items()
            if place.cluster == self.vacancies.cluster
            and any(share.node == node and (accelerator is None or accelerator in share.accelerators)
                    for share in place.shares)
        ]  # fmt: skip

    def close(self, node: int, accelerator: int | None = None) -> None:
        """Let nothing more start on a node, or on one of its accelerators."""
        if accelerator is None:
            self._closed[node] = self._closed.get(node, 0) + 1
            self.vacancies.closed.add(node)
            return
        broken = self._broken.setdefault(node, {})
        broken[accelerator] = broken.get(accelerator, 0) + 1
        free = self.vacancies.free[node]
        if accelerator in free:
            free.remove(accelerator)

    def reopen(self, node: int, accelerator: int | None, now: float) -> None:
        """It is repaired."""
        if accelerator is None:
            self._closed[node] -= 1
            if not self._closed[node]:
                self.vacancies.closed.discard(node)
        else:
            broken = self._broken[node]
            broken[accelerator] -= 1
            if not broken[accelerator]:
                del broken[accelerator]
                self.vacancies.free[node] = sorted([*self.vacancies.free[node], accelerator])
        self._serve(now)

    def _serve(self, now: float) -> None:
        for lifecycle, index in list(self._waiting):
            place = self.vacancies.take(lifecycle.num_accelerators)
            if place is not None:
                self._waiting.remove((lifecycle, index))
                self.world.places[lifecycle.front.first_replica + index] = place
                lifecycle.placed(index, now)

    def _reclaim(self, lifecycle: Lifecycle, now: float) -> None:
        donors = [
            each for each in self.world.lifecycles
            if each.cluster == lifecycle.cluster and each.priority > lifecycle.priority
            and each.count(UP) > each.min_replicas
        ]  # fmt: skip
        if donors:
            donor = max(donors, key=lambda each: each.priority)
            donor.scale_to(donor.num_active() - 1, now)
