"""Channels that carry bytes, and routes over them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from clustersim.network.flow import Flow


class Channel:
    """One direction of a link (or of a bundle of equal ones) that flows share. Made by `Flows.channel`."""

    __slots__ = (
        "active", "capacity_bytes_per_s", "ended_bytes", "flows", "latency_s", "limits", "load_bytes_per_s",
        "name", "num_open", "passed_bytes", "stamp", "updated_s", "used_bytes_per_s", "whole",
    )  # fmt: skip

    def __init__(self, name: str, capacity_bytes_per_s: float, latency_s: float, now: float) -> None:
        self.name = name
        self.capacity_bytes_per_s = capacity_bytes_per_s
        """0: it has failed."""
        self.latency_s = latency_s
        self.flows: dict[Flow, float] = {}
        """Running flows and their streams through this channel."""
        self.load_bytes_per_s = 0.0
        self.limits = 0
        """Flows that this channel keeps from going faster."""
        self.passed_bytes = 0.0
        """Until `updated_s`: the integral of the load."""
        self.ended_bytes = 0.0
        """What ended flows sent through it: a second account of the same bytes."""
        self.updated_s = now
        # Notes of `fairness.share_out` while it works.
        self.stamp = 0
        self.whole = False
        self.active = 0.0
        self.num_open = 0
        self.used_bytes_per_s = 0.0

    def carried_bytes(self, now: float) -> float:
        """Return the bytes carried until `now`."""
        return self.passed_bytes + self.load_bytes_per_s * (now - self.updated_s)

    def check(self, now: float, settling: bool = False) -> None:
        """Raise RuntimeError unless the load fits, unless it is being settled, and the bytes add up.

        Bytes are counted twice: as the integral of the load, and by what the flows sent.
        """
        load = sum(streams * flow.level for flow, streams in self.flows.items())
        sent = sum(streams / flow.streams * flow.sent_bytes(now) for flow, streams in self.flows.items())
        sent += self.ended_bytes
        carried = self.carried_bytes(now)
        fits = load <= self.capacity_bytes_per_s * (1 + 1e-9)
        adds_up = abs(load - self.load_bytes_per_s) <= 1e-9 * load + 1e-3
        if not (settling or (fits and adds_up)) or abs(sent - carried) > 1e-6 * carried + 1.0:
            raise RuntimeError(
                f"{self}: its flows have {load:g} B/s; {sent:.17g} bytes were sent, {carried:.17g} carried"
            )

    def __repr__(self) -> str:
        return f"Channel({self.name}, {self.load_bytes_per_s:g} of {self.capacity_bytes_per_s:g} B/s)"


class Route(NamedTuple):
    """What a transfer passes: `streams` equal streams in lockstep, so many of them through each channel.

    Eight accelerators on two nodes that send at once are 8 streams, 4 through each node's ports. Bandwidth is
    shared fairly between streams, as between connections.
    """

    hops: tuple[tuple[Channel, float], ...]
    streams: float = 1.0
    latency_s: float = 0.0
    """From the last byte's departure to its arrival."""
    cap_bytes_per_s: float = inf
    """What the streams can do together, whatever the channels have left."""


def series(channels: Sequence[Channel]) -> Route:
    """Return the route of one stream through different channels one after another: their latencies add up."""
    if len(set(channels)) < len(channels):
        raise ValueError(f"a channel twice in {list(channels)}; make a Route with two streams through it")
    return Route(tuple((channel, 1.0) for channel in channels), 1.0, sum(each.latency_s for each in channels))


def expected_s(route: Route, size_bytes: float) -> float:
    """Return the seconds that a new transfer would take if those under way stayed and shared evenly; inf for never."""
    rate = route.cap_bytes_per_s
    for channel, streams in route.hops:
        level = channel.capacity_bytes_per_s / (sum(channel.flows.values()) + streams)
        rate = min(rate, level * route.streams)
    return route.latency_s + (size_bytes / rate if rate else inf)
