"""Consistent hashing with bounded loads."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil

from clustersim.serving.routers import Targets
from clustersim.serving.routers.roll import Roll

#: Points of a target on the ring: the shares that targets have of it differ by about 1 / sqrt(points).
POINTS = 64
_BITS = 2**64 - 1


class Ring:
    """Keys and targets on a circle of hashes; a key belongs to the next target on it that is up and not too full.

    A target takes no more than `bound` times the mean of unfinished requests (Mirrokni, Thorup, Zadimoghaddam,
    Consistent Hashing with Bounded Loads, 2018). So a key keeps its target while that is up and not overloaded, and
    few keys move when a target comes or goes.
    """

    __slots__ = ("_bound", "_hashes", "_loads", "_owners", "_roll")

    def __init__(self, targets: Targets, bound: float) -> None:
        self._loads = targets.loads
        self._roll = Roll(targets)
        self._bound = bound
        points = sorted((_hash(point), point // POINTS) for point in range(len(targets.loads) * POINTS))
        self._hashes = [at for at, _ in points]
        self._owners = [owner for _, owner in points]

    def owner(self, key: int) -> int:
        """Return the target of a key, in O(log targets) where few are down or full; one must be up."""
        loads, owners = self._loads, self._owners
        most = ceil(self._bound * (self._roll.requests + 1) / len(self._roll.up))
        at = bisect_left(self._hashes, _hash(~key & _BITS))
        while True:  # ends: of those that are up, one has no more than the mean
            owner = owners[at % len(owners)]
            load = loads[owner]
            if load.up and load.requests < most:
                return owner
            at += 1


def _hash(number: int) -> int:
    """Return 64 bits that depend on all bits of a number (SplitMix64; Steele, Lea, Flood, 2014)."""
    number = number + 0x9E3779B97F4A7C15 & _BITS
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _BITS
    return number ^ number >> 31
