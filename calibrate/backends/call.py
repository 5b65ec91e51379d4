"""A call that says how it wants to be timed, where the backend's usual way would not do it justice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from calibrate.case import Clock


@dataclass(frozen=True)
class Call:
    """One call with its wishes; a plain function has the defaults. Backends ask `wishes(call)`."""

    run: Callable[[], Any]
    clock: Clock | None = None
    """Clock to read instead of the backend's: work of disks and sleeping cores shows in wall time alone."""
    capture: bool = True
    """Whether a GPU may replay it from a captured graph, and launch it behind a full queue."""
    window_s: float = 0.0
    """A sample repeats the call for at least this long: what a device sustains, not how it bursts."""

    def __call__(self) -> Any:
        """Run it once."""
        return self.run()


def wishes(call: Callable[[], Any]) -> Call:
    """Return the call as a `Call`."""
    return call if isinstance(call, Call) else Call(call)


def clock_of(call: Callable[[], Any], usual: Clock) -> Clock:
    """Return the clock that times a call on a backend whose usual clock is given."""
    return wishes(call).clock or usual
