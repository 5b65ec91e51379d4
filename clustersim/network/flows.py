"""Transfers that share a network: each goes at its max-min fair rate, which changes as others come and go.

    sent(t) = integral of the rate;   done at: time of the last byte's departure + latency of the route

Every change (a start, an end, another cap, another capacity) marks what it touches; all changes of one instant are
then settled together, last of everything in that instant, so that their order does not matter. Between changes
nothing happens: one timer waits for the next flow that ends, starts, lands or has its cap lifted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf

from simpy import Environment, Event
from simpy.events import EventPriority

from clustersim.network.channel import Channel, Route, series
from clustersim.network.fairness import share_out
from clustersim.network.flow import Flow, Release, State, Then

#: Changes of an instant are settled after whatever else happens in it: replicas' steps have priorities from 2 on.
_LAST = EventPriority(1 << 40)
_NORMAL = EventPriority(1)
#: Times are the same if they differ by less than this share: a few units in the last place of a float.
_SAME = 1e-15


class Flows:
    """All transfers of a simulation, and the channels they share."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.channels: list[Channel] = []
        self.num_started = 0
        self._queue: list[tuple[float, int, Flow]] = []
        self._timer: Event | None = None
        self._timer_s = inf
        self._settling = False
        self._changed: dict[Flow, None] = {}
        self._freed: dict[Channel, None] = {}
        self._stamp = 0

    # ---- what the world does ---------------------------------------------------------------------------------

    def channel(self, name: str, capacity_bytes_per_s: float, latency_s: float = 0.0) -> Channel:
        """Add a channel; its capacity may be infinite, or 0 for one that has failed."""
        made = Channel(name, _at_least_0(capacity_bytes_per_s), _at_least_0(latency_s), self.env.now)
        self.channels.append(made)
        return made

    def start(
        self,
        path: Route | Sequence[Channel],
        size_bytes: float,
        done: Then,
        *,
        cap_bytes_per_s: float = inf,
        release: Release | None = None,
        failed: Then | None = None,
    ) -> Flow:
        """Send bytes along a route, or through channels one after another; `done` is called when the last arrives.

        A flow that meets a failed channel calls `failed` and is over; without `failed` it waits for the repair.
        """
        route = path if isinstance(path, Route) else series(path)
        if not 0.0 <= size_bytes < inf:
            raise ValueError(f"a flow of {size_bytes} bytes")
        self.num_started += 1
        flow = Flow(self.num_started, route, size_bytes, done, failed)
        cap = min(route.cap_bytes_per_s, _at_least_0(cap_bytes_per_s))
        flow.lifted_level = flow.cap_level = cap / route.streams
        if release is None:
            self._begin(flow)
            return flow
        if release.until_s > self.env.now:
            flow.cap_level = min(cap, release.cap_bytes_per_s) / route.streams
            flow.until_s = release.until_s
        if release.not_before_s > self.env.now:
            self._expect(flow, release.not_before_s)
            if not self._settling:
                self._set_timer()
        else:
            self._begin(flow)
        return flow

    def cancel(self, flow: Flow) -> None:
        """Take a flow off, wherever it is; nobody is told. One that has ended stays ended."""
        if flow.state == "running":
            self._remove(flow, "cancelled")
        elif flow.state in ("held", "landing"):
            flow.state = "cancelled"
            flow.due_s = inf

    def set_cap(self, flow: Flow, bytes_per_s: float) -> None:
        """Give a flow another cap in place of what it started with, its route's and release's too; inf for none."""
        flow.lifted_level = flow.cap_level = _at_least_0(bytes_per_s) / flow.streams
        flow.until_s = -inf
        if flow.state == "running":
            flow.due_s = flow.finish_s
            self._changed[flow] = None
            self._settle_later()

    def set_capacity(self, channel: Channel, bytes_per_s: float) -> None:
        """Change what a channel can carry; 0: it fails, and its flows wait or are over."""
        channel.capacity_bytes_per_s = _at_least_0(bytes_per_s)
        over = [] if bytes_per_s else [flow for flow in channel.flows if flow.failed is not None]
        for flow in over:
            self._remove(flow, "failed")
        if channel.limits or channel.load_bytes_per_s > bytes_per_s:
            self._freed[channel] = None
            self._settle_later()
        for flow in over:
            self._fail(flow)

    def check(self) -> None:
        """Raise RuntimeError unless loads fit their channels and both accounts of the bytes carried agree."""
        for channel in self.channels:
            channel.check(self.env.now, self._settling)

    # ---- the life of a flow ------------------------------------------------------------------------------------

    def _begin(self, flow: Flow) -> None:
        if flow.failed is not None and any(not channel.capacity_bytes_per_s for channel, _ in flow.hops):
            flow.state = "failed"
            self._at_once(lambda _: self._fail(flow), _NORMAL)
            return
        flow.state = "running"
        flow.updated_s = self.env.now
        for channel, streams in flow.hops:
            channel.flows[flow] = streams
        self._changed[flow] = None
        self._settle_later()

    def _remove(self, flow: Flow, state: State) -> None:
        """Take a running flow off its channels; where it is to land all is sent, whatever rounding says."""
        now = self.env.now
        sent = passed = flow.passed_bytes + flow.level * flow.streams * (now - flow.updated_s)
        if state == "landing":
            sent = flow.size_bytes
        flow.state = state
        flow.passed_bytes = sent
        flow.due_s = inf
        each, missing = sent / flow.streams, (sent - passed) / flow.streams
        for channel, streams in flow.hops:
            load = channel.load_bytes_per_s
            channel.passed_bytes += load * (now - channel.updated_s) + streams * missing
            channel.updated_s = now
            channel.ended_bytes += streams * each
            del channel.flows[flow]
            channel.load_bytes_per_s = load - streams * flow.level if channel.flows else 0.0
            if channel is flow.limit:
                channel.limits -= 1
            if channel.limits:
                self._freed[channel] = None
        self._changed.pop(flow, None)
        if self._freed:
            self._settle_later()

    def _depart(self, flow: Flow, landed: list[Flow]) -> None:
        """Take off a flow whose bytes have all left."""
        self._remove(flow, "landing")
        if flow.latency_s:
            self._expect(flow, self.env.now + flow.latency_s)
        else:
            landed.append(flow)

    def _land(self, landed: list[Flow]) -> None:
        for flow in landed:
            if flow.state == "landing":  # one before it may have cancelled it
                flow.state = "done"
                flow.done(self.env.now)

    def _fail(self, flow: Flow) -> None:
        assert flow.failed is not None
        flow.failed(self.env.now)

    # ---- time ----------------------------------------------------------------------------------------------------

    def _settle_later(self) -> None:
        if not self._settling:
            self._settling = True
            self._at_once(self._settle, _LAST)

    def _settle(self, _: Event) -> None:
        """Give every flow that the changes of this instant reach its new level."""
        self._settling = False
        self._stamp += 1
        now = self.env.now
        flows, channels = share_out(self._changed, self._freed, self._stamp)
        self._changed.clear()
        self._freed.clear()
        for channel in channels:
            channel.passed_bytes += channel.load_bytes_per_s * (now - channel.updated_s)
            channel.updated_s = now
            channel.load_bytes_per_s = channel.used_bytes_per_s
        gone = []
        for flow in flows:
            limit, level = flow.next_limit, flow.next_level
            if limit is not flow.limit:
                if flow.limit is not None:
                    flow.limit.limits -= 1
                if limit is not None:
                    limit.limits += 1
                flow.limit = limit
            if level != flow.level:
                sent = flow.passed_bytes + flow.level * flow.streams * (now - flow.updated_s)
                flow.passed_bytes = sent
                flow.updated_s = now
                left = flow.size_bytes - sent
                flow.level = level if level < inf else 0.0
                flow.finish_s = now + left / (level * flow.streams) if level else inf
            if flow.finish_s <= now:
                gone.append(flow)
                continue
            due = flow.finish_s
            if flow.until_s > -inf and flow.until_s < due:
                due = flow.until_s
            if due != flow.due_s:
                self._expect(flow, due)
        if gone:
            landed: list[Flow] = []
            for flow in gone:
                self._depart(flow, landed)
            self._land(landed)
        if not self._settling:
            self._set_timer()

    def _expect(self, flow: Flow, time: float) -> None:
        """Note when something happens to a flow by itself. If it stands in the queue before, it is seen then."""
        flow.due_s = time
        if time < flow.queued_s:
            flow.queued_s = time
            heappush(self._queue, (time, flow.number, flow))

    def _set_timer(self) -> None:
        """Wake at the next time at which something is due, or before."""
        queue = self._queue
        while queue:
            time, _, flow = queue[0]
            if time == flow.queued_s:
                if flow.due_s <= time:
                    break
                flow.queued_s = inf
                heappop(queue)
                if flow.due_s < inf:
                    self._expect(flow, flow.due_s)
            else:
                heappop(queue)
        if queue and queue[0][0] < self._timer_s:
            self._timer_s = queue[0][0]
            self._timer = self._event(self._wake)
            self.env.schedule(self._timer, _NORMAL, max(0.0, self._timer_s - self.env.now))

    def _wake(self, event: Event) -> None:
        """Do what is due."""
        if event is not self._timer:
            return  # another came before it
        self._timer, self._timer_s = None, inf
        now, queue = self.env.now, self._queue
        until = now * (1 + _SAME)
        landed: list[Flow] = []
        while queue and queue[0][0] <= until:
            time, _, flow = heappop(queue)
            if time != flow.queued_s:
                continue
            flow.queued_s = inf
            if flow.due_s > until:
                if flow.due_s < inf:
                    self._expect(flow, flow.due_s)
            elif flow.state == "landing":
                landed.append(flow)
            elif flow.state == "held":
                flow.due_s = inf
                self._begin(flow)
            elif flow.finish_s <= until:
                self._depart(flow, landed)
            else:
                self._lift(flow)
        self._land(landed)
        if not self._settling:
            self._set_timer()

    def _lift(self, flow: Flow) -> None:
        """Let a flow go as fast as it can, its bytes having been made."""
        flow.cap_level = flow.lifted_level
        flow.until_s = -inf
        flow.due_s = inf
        if flow.finish_s < inf:
            self._expect(flow, flow.finish_s)
        if flow.limit is None:
            self._changed[flow] = None
            self._settle_later()

    def _event(self, act: Callable[[Event], None]) -> Event:
        event = Event(self.env)
        event._ok = True
        event._value = None
        assert event.callbacks is not None
        event.callbacks.append(act)
        return event

    def _at_once(self, act: Callable[[Event], None], priority: EventPriority) -> None:
        self.env.schedule(self._event(act), priority)


def _at_least_0(quantity: float) -> float:
    if not quantity >= 0.0:
        raise ValueError(f"{quantity}: a capacity, cap or latency is 0 or more")
    return quantity
