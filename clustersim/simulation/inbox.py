"""Calls of tasks on their way through the frontend of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clustersim.simulation.client import client_of
from clustersim.workload.tasks import Call

if TYPE_CHECKING:
    from clustersim.simulation.front import Front


class Inbox:
    """Lets calls through after the frontend's delay; those of one instant come together, in one event."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self._calls: list[Call] = []
        self._at = -1.0

    def send(self, call: Call) -> None:
        """Let a call through."""
        front = self.front
        now = front.world.env.now
        if self._at != now:
            self._at = now
            calls: list[Call] = []
            self._calls = calls
            front.world.after(front.delay_s, lambda _event: self._deliver(calls))
        self._calls.append(call)

    def _deliver(self, calls: list[Call]) -> None:
        if calls is self._calls:
            self._at = -1.0
        now = self.front.world.env.now
        for call in calls:
            client_of(call).enter(call, now)
