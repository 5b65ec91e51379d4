"""The simulated clock: SimPy's, with calls at absolute times and a shorter way from one event to the next."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from simpy import Environment, Event
from simpy.events import EventPriority


class Call(Event):
    """An event that is bound to happen, made with as little as SimPy needs."""

    _ok = True
    _value = None

    def __init__(self, act: Callable[[Event], None]) -> None:
        self.callbacks = [act]


class Clock(Environment):
    """SimPy's environment; processes, timeouts and events of SimPy run on it as they do there."""

    def call_at(self, time: float, priority: EventPriority, act: Callable[[Event], None]) -> Event:
        """Call `act` at `time` in seconds, now if that has passed; of the same time, in order of priority."""
        event = Call(act)
        now = self._now
        heappush(self._queue, (time if time > now else now, priority, next(self._eid), event))
        return event

    def run(self, until: Any = None) -> Any:
        """Run until nothing is left to happen, or as SimPy does."""
        if until is not None:
            return super().run(until)
        queue = self._queue
        while queue:
            self._now, _, _, event = heappop(queue)
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]  # SimPy's mark: it happened
            for callback in callbacks:
                callback(event)
            if not event._ok and not hasattr(event, "_defused"):
                raise event._value
        return None
