"""Which targets are up, kept from what watchers are told."""

from __future__ import annotations

from clustersim.serving.routers import Targets


class Roll:
    """The targets that are up.

    up: in order; the same list for good. requests: their unfinished requests, in all.
    """

    __slots__ = ("_loads", "_seen", "requests", "up")

    def __init__(self, targets: Targets) -> None:
        self._loads = targets.loads
        self.up = targets.up()
        self._seen = [load.requests if load.up else -1.0 for load in self._loads]
        """Of each its unfinished requests, -1 while it is down."""
        self.requests = sum(seen for seen in self._seen if seen > 0)
        targets.watchers.append(self._moved)

    def _moved(self, index: int) -> None:
        load, seen = self._loads[index], self._seen[index]
        now = self._seen[index] = load.requests if load.up else -1.0
        self.requests += max(0.0, now) - max(0.0, seen)
        if (now < 0) != (seen < 0):
            self.up[:] = [index for index, requests in enumerate(self._seen) if requests >= 0]
