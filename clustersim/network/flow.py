"""One transfer on its way, and when its bytes come to be."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Literal, NamedTuple

from clustersim.network.channel import Channel, Route

Then = Callable[[float], None]
"""Called with the time."""
State = Literal["held", "running", "landing", "done", "cancelled", "failed"]


class Release(NamedTuple):
    """When the bytes of a flow come to be: see `layer_wise`."""

    not_before_s: float
    cap_bytes_per_s: float = inf
    until_s: float = -inf
    """The cap holds until then."""


def layer_wise(size_bytes: float, num_layers: int, start_s: float, duration_s: float) -> Release:
    """Return the release of bytes that a computation makes layer by layer, at a steady rate.

    They start when the first of L layers is done, at start + d/L, and go no faster than they are made, size/d, until
    the computation ends. Alone on bandwidth b they are all sent at

        start + d + size / (L b)       if b >= size/d: the last layer's bytes, after the computation
        start + d/L + size / b         otherwise

    A flow that others slowed down does not catch up before the computation ends, though it might: its end is late
    by at most what it caught up. No bytes are sent before they are made.
    """
    if num_layers < 1 or not duration_s >= 0.0:
        raise ValueError(f"{num_layers} layers in {duration_s} s")
    rate = size_bytes / duration_s if duration_s else inf
    return Release(start_s + duration_s / num_layers, rate, start_s + duration_s)


class Flow:
    """A transfer on its way. Its level is the rate of each of its streams; made by `Flows.start`."""

    __slots__ = (
        "cap_level", "done", "due_s", "failed", "finish_s", "hops", "latency_s", "level", "lifted_level", "limit",
        "next_level", "next_limit", "number", "passed_bytes", "queued_s", "size_bytes", "stamp", "state", "streams",
        "until_s", "updated_s",
    )  # fmt: skip

    def __init__(self, number: int, route: Route, size_bytes: float, done: Then, failed: Then | None) -> None:
        self.number = number
        self.hops, self.streams, self.latency_s, _ = route
        self.size_bytes = size_bytes
        self.done = done
        self.failed = failed
        self.state: State = "held"
        self.level = 0.0
        self.limit: Channel | None = None
        """The channel that keeps it from going faster; None: its cap does."""
        self.cap_level = inf
        self.until_s = -inf
        """When the cap becomes `lifted_level`; -inf: it has, or never does."""
        self.lifted_level = inf
        self.passed_bytes = 0.0
        """Sent until `updated_s`."""
        self.updated_s = 0.0
        self.finish_s = inf
        """When the last byte leaves at this level."""
        self.due_s = inf
        """When something happens to it by itself."""
        self.queued_s = inf
        """The time at which it stands in the queue, due then or later."""
        # Notes of `fairness.share_out` while it works.
        self.stamp = 0
        self.next_level = 0.0
        self.next_limit: Channel | None = None

    @property
    def rate_bytes_per_s(self) -> float:
        """The bandwidth it has now."""
        return self.level * self.streams

    def sent_bytes(self, now: float) -> float:
        """Return the bytes that have left until `now`."""
        if self.state != "running":
            return self.passed_bytes
        return self.passed_bytes + self.level * self.streams * (now - self.updated_s)

    def __repr__(self) -> str:
        return f"Flow({self.number}, {self.state}, {self.size_bytes:g} B at {self.rate_bytes_per_s:g} B/s)"
