"""Max-min fair rates by progressive filling, of only those flows that a change can reach.

The level of a flow is the rate of one of its streams, bytes a second. Rates are max-min fair when every flow is
at its cap or has a bottleneck: a channel without room left on which no stream is faster (Bertsekas and Gallager,
Data Networks, section 6.5.2). Filling raises all levels together and freezes those that meet a cap or a full channel.

A change reaches the flows on channels that limit somebody, and from these on; a channel that limits nobody does not
pass it on, since its other flows have their bottlenecks elsewhere. Such a channel may come to limit a flow; if a
stream on it is faster than that, it is filled anew with all its flows.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import TYPE_CHECKING

from clustersim.network.channel import Channel

if TYPE_CHECKING:
    from clustersim.network.flow import Flow

#: Levels that differ by less than this share are the same, summed in another order.
_SAME = 1e-12


def share_out(
    changed: Iterable[Flow], freed: Iterable[Channel], stamp: int
) -> tuple[list[Flow], list[Channel]]:
    """Find new levels after flows started or changed their caps and channels got or lost room.

    Every flow of `freed` channels is filled anew. Returns the flows in reach, with `next_level` and `next_limit`
    set, and the channels they pass, with `used_bytes_per_s` set. `stamp` differs from call to call.
    """
    flows: list[Flow] = []
    channels: list[Channel] = []
    to_fill: list[Channel] = []

    def reach(flow: Flow) -> None:
        flow.stamp = stamp
        flows.append(flow)
        for channel, _ in flow.hops:
            if channel.stamp != stamp:
                channel.stamp = stamp
                channels.append(channel)
                channel.whole = channel.limits > 0
                if channel.whole:
                    to_fill.append(channel)

    for channel in freed:
        channel.stamp = stamp
        channel.whole = True
        channels.append(channel)
        to_fill.append(channel)
    for flow in changed:
        if flow.stamp != stamp:
            reach(flow)
    while True:
        while to_fill:
            for flow in to_fill.pop().flows:
                if flow.stamp != stamp:
                    reach(flow)
        for channel in _fill(flows, channels, stamp):
            channel.whole = True
            to_fill.append(channel)
        if not to_fill:
            return flows, channels


def _fill(flows: list[Flow], channels: list[Channel], stamp: int) -> list[Channel]:
    """Fill what other flows leave; returns the channels that must be filled with all their flows after all."""
    capped, full = _empty(flows, channels)
    crowded = []
    level, left, next_cap = 0.0, len(flows), 0
    while left:
        bound, channel = _fullest(full)
        if next_cap < len(capped) and capped[next_cap][0] <= bound:
            cap, _, flow = capped[next_cap]
            next_cap += 1
            if flow.next_level < 0.0:
                level = max(level, cap)
                _freeze(flow, cap, None)
                left -= 1
        elif channel is None:
            for flow in flows:
                if flow.next_level < 0.0:
                    flow.next_level, flow.next_limit = inf, None
            break
        else:
            level = max(level, bound)  # rounding apart, levels only rise
            for flow in channel.flows:
                if flow.stamp == stamp and flow.next_level < 0.0:
                    _freeze(flow, level, channel)
                    left -= 1
            if not channel.whole and _is_crowded(channel, level, stamp):
                crowded.append(channel)
    return crowded


def _empty(
    flows: list[Flow], channels: list[Channel]
) -> tuple[list[tuple[float, int, Flow]], list[tuple[float, int, Channel]]]:
    """Take the flows out of the channels; returns caps in order and a heap of the levels that fill channels."""
    for channel in channels:
        channel.active = 0.0
        channel.num_open = 0
        channel.used_bytes_per_s = channel.load_bytes_per_s
    capped = []
    for index, flow in enumerate(flows):
        flow.next_level = -1.0
        level = flow.level
        for channel, streams in flow.hops:
            channel.active += streams
            channel.num_open += 1
            channel.used_bytes_per_s -= streams * level
        if flow.cap_level < inf:
            capped.append((flow.cap_level, index, flow))
    capped.sort()
    full = []
    for index, channel in enumerate(channels):
        if channel.num_open == len(channel.flows):
            channel.used_bytes_per_s = 0.0  # but for rounding it was
        if channel.num_open:
            room = channel.capacity_bytes_per_s - channel.used_bytes_per_s
            full.append((room / channel.active, index, channel))
    heapify(full)
    return capped, full


def _fullest(full: list[tuple[float, int, Channel]]) -> tuple[float, Channel | None]:
    """Return the channel that is full next, and at which level; (inf, None) if none ever is."""
    while full:
        bound, index, channel = full[0]
        if not channel.num_open:
            heappop(full)
            continue
        now = (channel.capacity_bytes_per_s - channel.used_bytes_per_s) / channel.active
        if now > bound:  # some of its flows met another limit since
            heapreplace(full, (now, index, channel))
            continue
        return (bound, channel) if bound < inf else (inf, None)
    return inf, None


def _is_crowded(channel: Channel, level: float, stamp: int) -> bool:
    """Say whether a stream out of reach is faster than `level`, to which the channel holds others."""
    limit = level * (1 + _SAME)
    return any(flow.level > limit for flow in channel.flows if flow.stamp != stamp)


def _freeze(flow: Flow, level: float, limit: Channel | None) -> None:
    flow.next_level = level
    flow.next_limit = limit
    for channel, streams in flow.hops:
        channel.used_bytes_per_s += streams * level
        channel.active -= streams
        channel.num_open -= 1
