"""A replica: one model instance that batches continuously, as vLLM V1 does, and advances in runs.

A run is any number of engine steps of one batch composition. Its duration comes from the deployment's `StepTime`
in closed form, so that the cost of a request does not grow with its tokens. A run ends when a sequence finishes,
a prefill is due, KV blocks run out, or a request arrives that could join the batch or is cancelled: then at the
next step boundary. A request that arrives at the very time of a boundary joins there. What another replica, the
network or a timer tells it at that time takes effect at the boundary after it: whose step is told first does not
matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from simpy import Event
from simpy.events import EventPriority

from clustersim.clock import Clock
from clustersim.records import RequestRecords, RunRecords, pack_run
from clustersim.serving.adapters import Adapters
from clustersim.serving.batch import Batch
from clustersim.serving.contracts import Policy, StepTimes
from clustersim.serving.kv_cache import KvCache, Prefix

#: Events of the same time: arrivals (SimPy's NORMAL, 1) come before the ends of steps, these in order of replica.
_AFTER_ARRIVALS = 2
#: Times are the same if they differ by less than this share: the same steps, summed in another order.
_SAME = 1e-12
_NO_PREFILL = (0, 0, 0, 0, 0)


class Replica(Batch):
    """A batch and its progress in time."""

    def __init__(
        self,
        index: int,
        clock: Clock,
        records: RequestRecords,
        runs: RunRecords,
        scheduler: Policy,
        step_times: StepTimes,
        kv: KvCache,
        on_finish: Callable[[int, float], None],
        data_parallel: int = 1,
        in_flight: int = 1,
        adapters: Adapters | None = None,
    ) -> None:
        super().__init__(records, scheduler, kv, on_finish, data_parallel, in_flight, adapters)
        self.index = index
        self._order_of_events = EventPriority(_AFTER_ARRIVALS + index)
        self.clock = clock
        self.runs = runs
        self.step_times = step_times
        self.on_chunks: Callable[[Replica, float, float], None] | None = None
        """Told of every step that prefills, when it starts: (this replica, start, duration in seconds)."""

        self.chunks: list[tuple[int, int]] = []
        """(request, tokens) that the step in progress prefills."""
        self.leaving: set[int] = set()
        """Requests that are taken off at the next step boundary: they must not come again before."""
        self.on_idle: Callable[[float], None] | None = None
        """Told of the time when there is no step to take."""
        self._steps = 0  # steps planned in the run in progress; 0: idle
        self._open = False
        self._busy = False  # inside _advance: arrivals are seen when it plans
        self._queued = 0
        self._duration = 0.0
        self._load_s = 0.0  # of that, what loading adapters adds
        self._shape = _NO_PREFILL
        self._wake: Event | None = None
        self._orders: list[tuple[float, Callable[[], Any]]] = []
        """What is to be done at boundaries after a time."""

    # ---- what the world does to a replica --------------------------------------------------------------------

    def submit(self, request: int, now: float, left: int | None = None, *, remote: bool = False) -> None:
        """Queue a request that arrives at time `now`.

        `left` are the output tokens it has still to make, where it made some elsewhere; with `remote` its KV is
        elsewhere, too, and will come when it has room here.
        """
        if left is not None:
            self.left[request] = left
        if remote:
            self.remote[request] = self.prefill_length(request) - 1  # the last token it made has no KV yet
        self.waiting.append(request)
        if self._busy:
            return
        if self._steps == 0:
            self._rouse(now)
        elif self._open:
            self._open = False
            self._cut_short(now)

    def submit_late(self, request: int, now: float, left: int | None = None, *, remote: bool = False) -> None:
        """Queue a request that another replica hands over: one of the same time finds the next step planned."""
        if not remote:
            self.coming.add(request)
        self._order(partial(self._come, request, now, left, remote=remote), now)

    def _come(self, request: int, now: float, left: int | None, *, remote: bool) -> None:
        self.coming.discard(request)
        self.submit(request, now, left, remote=remote)

    def abandon(self, request: int, now: float) -> None:
        """Forget a request that another replica knows the end of, at the next step boundary."""
        self.leaving.add(request)
        self._order(partial(self._leave, request, self._remove), now)

    def _leave(self, request: int, how: Callable[[int], object]) -> None:
        self.leaving.discard(request)
        how(request)

    def after_step(self, act: Callable[[], object], now: float) -> None:
        """Do something at the first step boundary after `now`, and after what was ordered before."""
        self._order(act, now)

    def cancel(self, request: int, now: float) -> None:
        """Take a request off, its KV freed, at the next step boundary: as an engine that is told to abort it.

        If its last token comes with that boundary it is finished instead, and nobody is told.
        """
        if self._busy or not self._steps:
            self._cancelled[request] = 0.0
            if not self._busy:
                self._rouse(now)
            return
        first = not self._cancelled
        due = self._cancelled[request] = now * (1 + _SAME)
        if first and not self.chunks:
            self._cut_short(due)

    def drop(self, prefix: Prefix, now: float) -> None:
        """Let go of a prefix that nobody will ask for again, at the next step boundary: see KvCache.drop."""
        kv = self.kv
        if self._busy or not self._steps:
            kv.drop(prefix)
            return
        due = now * (1 + _SAME)
        self._orders.append((due, partial(kv.drop, prefix)))
        evicts = kv.idle and kv.used + kv.idle + self._growth(self._steps) > kv.num_blocks
        if not self.chunks and (evicts or kv.below is not None):
            self._cut_short(due)  # steps after it evict less, and a tier that others use has room

    def withdraw(self, request: int, now: float) -> None:
        """Take a request that was never in a batch off the queue: the next plan, at `now` or later, is without it."""
        if self._orders and request not in self.waiting:
            self.abandon(request, now)  # it is yet to be queued
            return
        self._remove(request)
        if self._steps and not self.chunks:
            if self.waiting:
                self._cut_short(now)
            else:  # whoever comes next may be let in
                self._open = self.scheduler.open_to_arrivals(self)

    def prefills_for_s(self, now: float) -> float:
        """Return the seconds that the step in progress goes on, if it prefills; else 0."""
        return max(0.0, self._now + self._duration - now) if self.chunks else 0.0

    def join(self, request: int, now: float) -> None:
        """The KV of a remote request has arrived: it decodes from the step after the next boundary on."""
        self._order(partial(self._join, request), now)

    def release(self, request: int, now: float) -> None:
        """Free the KV of a request that was held for another replica, at the next step boundary."""
        self.leaving.add(request)
        self._order(partial(self._leave, request, self._release_held), now)

    def fail(self, now: float) -> list[tuple[int, int]]:
        """Stop at once, losing the batch, the queue and all KV; return (request, output tokens made) of each lost.

        Steps that ended before `now` count; the one in progress is lost. Requests that were being cancelled are.
        """
        done = self._steps_done(now)
        self._busy = True
        if done:
            curve = self.step_times.decode(self.kv.num_decoding)
            self._steps, self._duration = done, curve.total(self.context, self.kv.num_decoding, done)
            self._end_run()
        self._follow_orders(float("inf"))
        self._busy = False
        for request in self._cancelled:
            self._write_off(request, now)
        self._cancelled.clear()
        here = [*self.running, *self.loading, *self.held, *self.waiting]
        lost = []
        for request in here:
            output = self.records.thinking_tokens[request] + self.records.answer_tokens[request]
            finish = self.running.get(request, 0)
            left = finish - self.counter if finish else self.left.get(request, output)
            lost.append((request, output - left))
        self.sharing.clear()
        if self.adapters is not None:
            self.adapters.clear()
        for table in (self.waiting, self.running, self.computed, self.left, self.remote, self.loading, self.held,
                      self._offsets, self._finishes, self._answers, self._orders):  # fmt: skip
            table.clear()
        self.chunks = []
        self.context = self._steps = 0
        self._wake = None
        return lost

    def _steps_done(self, now: float) -> int:
        """Return the steps of the decode run in progress that ended before `now`."""
        if not self._steps or self.chunks or self._load_s:
            return 0
        curve, batch = self.step_times.decode(self.kv.num_decoding), self.kv.num_decoding
        since = (now - self._now) * (1 - _SAME)
        done, seconds = curve.reach(self.context, batch, since, self._steps)
        return done - 1 if seconds > since else done

    def settle(self, now: float) -> None:
        """Let steps that ended before `now` evict what they did, for one who asks what is in the cache."""
        kv, steps = self.kv, self._steps
        if self._busy or not kv.idle or kv.used + kv.idle + self._growth(steps) <= kv.num_blocks:
            return
        done = self._steps_done(now)
        if done:
            end = self._now + self._duration
            curve = self.step_times.decode(kv.num_decoding)
            self._steps, self._duration = done, curve.total(self.context, kv.num_decoding, done)
            self._busy = True
            self._end_run()
            self._busy = False
            self._steps, self._duration = steps - done, end - self._now

    def blocks_used(self, now: float) -> int:
        """Return the KV blocks of the batch at time `now`, in the middle of a run."""
        return self.kv.used + self._growth(self._steps_done(now))

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do, now or later, and holds no KV for another replica."""
        ours = self.waiting or self.running or self.loading or self.held or self._orders
        return not (ours or self._steps or self._busy or self._wake)

    def _order(self, act: Callable[[], Any], now: float) -> None:
        """Do something at the first step boundary after `now`; at once where no step is in progress."""
        if self._steps or self._busy:
            due = now * (1 + _SAME) if self._steps else 0.0
            self._orders.append((due, act))
            if not self.chunks and not self._busy:
                self._cut_short(due)
            return
        act()
        self._rouse(now)

    def _rouse(self, now: float) -> None:
        """Plan at time `now`, after all that arrives then."""
        if self._wake is None:
            self._now = now
            self._sleep_until(now)

    def _cut_short(self, now: float) -> None:
        """End the decode run in progress at the first step boundary from `now` on."""
        most, batch = self._steps, self.kv.num_decoding
        steps, seconds = self.step_times.decode(batch).reach(self.context, batch, now - self._now, most)
        if steps < most:
            self._steps, self._duration = steps, seconds
            self._sleep_until(self._now + seconds)

    # ---- time ------------------------------------------------------------------------------------------------

    def _sleep_until(self, time: float) -> None:
        self._wake = self.clock.call_at(time, self._order_of_events, self._advance)

    def _advance(self, event: Event) -> None:
        """End the run in progress, then plan and start the next."""
        if event is not self._wake:
            return  # the run was cut short by an arrival
        self._busy = True
        self._wake = None
        if self._steps:
            self._end_run()
        if self._cancelled:
            self._take_off()
        self._start_run()
        self._busy = False

    def _start_run(self) -> None:
        self._queued = len(self.waiting)
        self._preempted = self.stalled = False
        chunks = self.chunks = self.scheduler.plan(self)
        if self.on_room is not None:
            self._queued = len(self.waiting)  # who has room now did not wait for it
        batch = self.kv.num_decoding
        load_s = self._load_s = 0.0 if self.adapters is None else self.adapters.take_loading_s()
        if chunks:
            self._steps = 1
            self._open = False
            duration = self._duration = self._prefill_time(0 if self.stalled else batch) + load_s
            if self.on_chunks is not None:
                self.on_chunks(self, self._now, duration)
        elif batch:
            told = self._preempted or self._cancelled or self._orders or load_s
            steps = self._steps = 1 if told else self._steps_ahead()
            self._open = self.scheduler.open_to_arrivals(self)
            duration = self.step_times.decode(batch).total(self.context, batch, steps) + load_s
            self._duration = duration
        else:
            self._steps = 0
            if self._orders or self._cancelled:  # told at this very time: there is no later boundary
                self._cancelled = dict.fromkeys(self._cancelled, 0.0)
                self._follow_orders(float("inf"))
                self._rouse(self._now)
            elif self.on_idle is not None:
                self.on_idle(self._now)
            return
        self._sleep_until(self._now + duration)

    def _prefill_time(self, batch: int) -> float:
        """Return the seconds of a step with the planned chunks in it, and remember its shape for the record."""
        tokens = pairs = keys = largest = 0
        for request, chunk in self.chunks:
            end = self.computed[request]
            tokens += chunk
            pairs += chunk * (end - chunk) + chunk * (chunk + 1) // 2
            keys += end
            largest = max(largest, chunk)
        self._shape = (tokens, pairs, keys, len(self.chunks), largest)
        return self.step_times.mixed(batch, self.context if batch else 0, *self._shape)

    def _end_run(self) -> None:
        steps, start, kv, chunks = self._steps, self._now, self.kv, self.chunks
        batch, context, stalled = kv.num_decoding, self.context, 0
        if self.stalled:
            steps, batch, context, stalled = 0, 0, 0, batch
        kv.used += self._growth(steps)
        kv.reserved = 0
        if kv.idle:
            kv.evict()
        now = self._now = start + self._duration
        counter = self.counter = self.counter + steps
        self.context += steps * batch
        if self._recounts:
            self._recount(steps)
        if self._answers and self._answers[0][0] <= counter:
            first = counter - steps

            def time_of(counter: int) -> float:
                return start + self.step_times.decode(batch).total(context, batch, counter - first)

            self._pass_answers(time_of)
        ended = [request for request, _ in chunks if self._is_prefilled(request)] if chunks else ()
        shape = self._shape if chunks else _NO_PREFILL
        self.runs.append(pack_run(
            self.index, start, now, steps or 1, batch, context, *shape, len(ended), kv.used, self._queued, stalled
        ))  # fmt: skip
        if self._orders:
            self._follow_orders(now)
        if self._finishes and self._finishes[0][0] <= counter:
            self._pass_finishes()
        for request in ended:
            if request in self.computed:
                self._end_prefill(request)
            else:  # abandoned at this very boundary
                self.records.lost_tokens[request] += 1
        self.chunks = []

    def _follow_orders(self, now: float) -> None:
        """Do what this replica was told to do before `now`."""
        due = [act for at, act in self._orders if at <= now]
        self._orders = [order for order in self._orders if order[0] > now]
        for act in due:
            act()
