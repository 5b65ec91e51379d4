"""The accelerators of one cluster, and the replicas that wait for some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clustersim.network.place import Place, Share
from clustersim.scenario.placement import Vacancies

if TYPE_CHECKING:
    from clustersim.simulation.lifecycle import Lifecycle
    from clustersim.simulation.world import World


class Pool:
    """Who waits is served by priority, then first come first served; all that happens in an instant is seen together.

    Where too few are free, a deployment reclaims accelerators from those whose priority number is higher and that have
    more replicas than their least: these are drained. Nobody of a higher number passes one who waits for what is
    coming; one whom nothing that may come would satisfy lets others by.
    """

    def __init__(self, world: World, vacancies: Vacancies) -> None:
        self.world = world
        self.vacancies = vacancies
        self._waiting: list[tuple[Lifecycle, int]] = []
        self._broken: dict[int, dict[int, int]] = {}
        """Node -> accelerator -> failures that keep it out."""
        self._closed: dict[int, int] = {}
        """Node -> failures that keep it closed."""
        self._settling = False

    def ask(self, lifecycle: Lifecycle, index: int) -> None:
        """Queue a replica for accelerators."""
        self._waiting.append((lifecycle, index))
        self._waiting.sort(key=lambda each: each[0].priority)
        self._settle_soon()

    def forget(self, lifecycle: Lifecycle, index: int) -> None:
        """A replica does not want any more."""
        self._waiting.remove((lifecycle, index))
        self._settle_soon()

    def give_back(self, replica: int) -> None:
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
        self._settle_soon()

    # ---- failures --------------------------------------------------------------------------------------------

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

    def reopen(self, node: int, accelerator: int | None = None) -> None:
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
        self._settle_soon()

    # ---- who gets what ---------------------------------------------------------------------------------------

    def _settle_soon(self) -> None:
        if not self._settling:
            self._settling = True
            self.world.after(0.0, lambda _event: self._settle())

    def _settle(self) -> None:
        self._settling = False
        now = self.world.env.now
        passed: int | None = None
        for lifecycle, index in list(self._waiting):
            if passed is not None and lifecycle.priority > passed:
                break
            place = self.vacancies.take(lifecycle.num_accelerators)
            if place is not None:
                self._waiting.remove((lifecycle, index))
                self.world.places[lifecycle.front.first_replica + index] = place
                lifecycle.placed(index, now)
            elif passed is None and self._may_come(lifecycle) >= lifecycle.num_accelerators:
                passed = lifecycle.priority
        self._reclaim(now)

    def _here(self) -> list[Lifecycle]:
        return [each for each in self.world.lifecycles if each.cluster == self.vacancies.cluster]

    def _may_come(self, lifecycle: Lifecycle) -> int:
        """Return the accelerators that are free, are being left, or can be reclaimed for a deployment."""
        coming = sum(each.num_leaving() * each.num_accelerators for each in self._here())
        return self.vacancies.num_free + coming + sum(
            each.num_to_spare() * each.num_accelerators for each in self._donors(lifecycle)
        )  # fmt: skip

    def _donors(self, lifecycle: Lifecycle) -> list[Lifecycle]:
        return [
            each for each in self._here() if each.priority > lifecycle.priority and each.num_to_spare() > 0
        ]

    def _reclaim(self, now: float) -> None:
        """Drain as many replicas of lower priority as those who wait are short of; none where that is not enough."""
        coming = sum(each.num_leaving() * each.num_accelerators for each in self._here())
        left = self.vacancies.num_free + coming
        for lifecycle, _ in list(self._waiting):
            short = lifecycle.num_accelerators - left
            if short > 0:
                donors = sorted(self._donors(lifecycle), key=lambda each: -each.priority)
                if sum(each.num_to_spare() * each.num_accelerators for each in donors) < short:
                    continue
                for donor in donors:
                    while short > 0 and donor.num_to_spare() > 0:
                        donor.reclaim(now)
                        short -= donor.num_accelerators
                        left += donor.num_accelerators
            left -= lifecycle.num_accelerators
