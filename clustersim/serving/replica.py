"""A replica: one model instance that batches continuously, as vLLM V1 does, and advances in runs.

A run is any number of engine steps of one batch composition. Its duration comes from the deployment's `StepTime`
in closed form, so that the cost of a request does not grow with its tokens. A run ends when a sequence finishes,
a prefill is due, KV blocks run out, or a request arrives that could join the batch or is cancelled: then at the
next step boundary. A request that arrives at the very time of a boundary joins there. What another replica or a timer
takes back at that time takes effect at the boundary after it: whose step is told first does not matter.

Counting: `counter` numbers the engine steps of this replica. A sequence that decodes gains one token a step, so
its finish is a step number that is known when it starts to decode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import isnan

from simpy import Environment, Event
from simpy.events import EventPriority

from clustersim.records import CANCELLED, FINISHED, RequestRecords, RunRecords
from clustersim.serving.contracts import Policy, StepTimes
from clustersim.serving.kv_cache import KvCache, Prefix
from clustersim.serving.sharing import Sharing

#: Events of the same time: arrivals (SimPy's NORMAL, 1) come before the ends of steps, these in order of replica.
_AFTER_ARRIVALS = 2
#: Times are the same if they differ by less than this share: the same steps, summed in another order.
_SAME = 1e-12


class Replica:
    """The state of one replica and its progress in time.

    waiting: request indices, first come first served. running: request -> the counter at whose end its last token
    appears, in order of admission; 0 while it prefills. computed: request -> tokens in cache while it prefills.
    """

    def __init__(
        self,
        index: int,
        env: Environment,
        records: RequestRecords,
        runs: RunRecords,
        scheduler: Policy,
        step_times: StepTimes,
        kv: KvCache,
        on_finish: Callable[[int, float], None],
        data_parallel: int = 1,
        in_flight: int = 1,
    ) -> None:
        self.index = index
        self.env = env
        self.records = records
        self.runs = runs
        self.scheduler = scheduler
        self.step_times = step_times
        self.kv = kv
        self.on_finish = on_finish
        self.data_parallel = data_parallel  # ranks with a batch and a KV cache of their own
        self.in_flight = in_flight  # micro-batches in a step: data_parallel times pipeline stages
        self.sharing = Sharing(kv)

        self.waiting: deque[int] = deque()
        self.running: dict[int, int] = {}
        self.computed: dict[int, int] = {}
        self.left: dict[int, int] = {}  # output tokens a sequence had left when it last started to prefill
        self.counter = 0
        self.context = 0  # tokens that the decoding sequences attend to in the next step, in all
        self._offsets: dict[int, int] = {}  # decoding sequence -> tokens in cache minus counter
        self._finishes: list[tuple[int, int]] = []
        self._answers: list[tuple[int, int, int]] = []  # (counter, request, finish): first answer token

        self._now = 0.0  # the last step boundary
        self._steps = 0  # steps planned in the run in progress; 0: idle
        self._chunks: list[tuple[int, int]] = []
        self._open = False
        self._busy = False  # inside _advance: arrivals are seen when it plans
        self._preempted = False  # in this plan: the next step may admit again
        self._queued = 0
        self._duration = 0.0
        self._shape = (0, 0, 0, 0, 0)
        self._wake: Event | None = None
        self._cancelled: dict[int, float] = {}  # request -> time from which on a boundary takes it off
        self._dropped: list[tuple[float, Prefix]] = []  # the same for prefixes

    # ---- what the world does to a replica -------------------------------------------------------------------

    def submit(self, request: int, now: float) -> None:
        """Queue a request that arrives at time `now`."""
        self.waiting.append(request)
        if self._busy:
            return
        if self._steps == 0:
            if self._wake is None:
                self._now = now
                self._sleep_until(now)
        elif self._open:
            self._open = False
            self._cut_short(now)

    def cancel(self, request: int, now: float) -> None:
        """Take a request off, its KV freed, at the next step boundary: as an engine that is told to abort it.

        If its last token comes with that boundary it is finished instead, and nobody is told.
        """
        if self._busy or not self._steps:
            self._cancelled[request] = 0.0
            return
        first = not self._cancelled
        due = self._cancelled[request] = now * (1 + _SAME)
        if first and not self._chunks:
            self._cut_short(due)

    def drop(self, prefix: Prefix, now: float) -> None:
        """Let go of a prefix that nobody will ask for again, at the next step boundary: see KvCache.drop."""
        kv = self.kv
        if self._busy or not self._steps:
            kv.drop(prefix)
            return
        due = now * (1 + _SAME)
        self._dropped.append((due, prefix))
        if kv.idle and not self._chunks and kv.used + kv.idle + self._growth(self._steps) > kv.num_blocks:
            self._cut_short(due)  # steps after it evict less

    def _cut_short(self, now: float) -> None:
        """End the decode run in progress at the first step boundary from `now` on."""
        most = self._steps
        curve = self.step_times.decode(self.kv.num_decoding)
        steps = curve.steps_to_reach(self.context, self.kv.num_decoding, now - self._now, most)
        if steps < most:
            self._steps = steps
            self._sleep_until(self._now + curve.total(self.context, self.kv.num_decoding, steps))

    # ---- what a scheduler does to a replica -----------------------------------------------------------------

    def prefill_length(self, request: int) -> int:
        """Return the tokens a waiting request must prefill: its input, and after a preemption its output so far."""
        records = self.records
        output = records.thinking_tokens[request] + records.answer_tokens[request]
        return int(records.input_tokens[request] + output - self.left.get(request, output))

    def to_prefill(self, request: int) -> int:
        """Return the tokens a waiting request would have to compute if it were admitted now: those not in cache."""
        return self.prefill_length(request) - self.sharing.cached(request)

    def make_room_to_decode(self) -> bool:
        """Preempt the last admitted sequences until every decoding one can grow by a token; True if any was."""
        preempted = False
        while self._growth() > self.kv.num_blocks - self.kv.used:
            self.preempt(next(reversed(self.running)))
            preempted = True
        self.kv.reserved = self._growth()
        return preempted

    def admit(self, tokens: int) -> bool:
        """Start to prefill the head of the queue with `tokens` tokens; False, and no change, if KV has no room."""
        request = self.waiting[0]
        cached = self.sharing.admit(request, tokens)
        if cached is None:
            return False
        self.waiting.popleft()
        self.running[request] = 0
        self.computed[request] = cached + tokens
        if isnan(self.records.scheduled_s[request]):
            self.records.scheduled_s[request] = self._now
            self.records.cached_tokens[request] = cached
        return True

    def extend(self, request: int, tokens: int) -> bool:
        """Prefill `tokens` more of a running request; False, and no change, if KV has no room."""
        held = self.computed[request]
        if not self.kv.allocate(held, held + tokens):
            return False
        self.computed[request] = held + tokens
        self.sharing.computed(request, held + tokens)
        return True

    def preempt(self, request: int) -> None:
        """Take a running request off the batch, free its KV and queue it first; it will be recomputed."""
        self._preempted = True
        finish = self.running.pop(request)
        if request in self.computed:
            self.sharing.release(request, self.computed.pop(request))
        else:
            self.sharing.release(request, self._stop_decoding(request))
            self.left[request] = finish - self.counter
        self.records.num_preemptions[request] += 1
        self.waiting.appendleft(request)

    # ---- time ------------------------------------------------------------------------------------------------

    def _sleep_until(self, time: float) -> None:
        self._wake = event = Event(self.env)
        event._ok = True
        event._value = None
        assert event.callbacks is not None
        event.callbacks.append(self._advance)
        self.env.schedule(event, EventPriority(_AFTER_ARRIVALS + self.index), max(0.0, time - self.env.now))

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
        self._preempted = False
        self._chunks = self.scheduler.plan(self)
        batch = self.kv.num_decoding
        if self._chunks:
            self._steps = 1
            self._open = False
            self._duration = self._prefill_time(batch)
        elif batch:
            told = self._preempted or self._cancelled or self._dropped
            self._steps = 1 if told else self._steps_ahead()
            self._open = self.scheduler.open_to_arrivals(self)
            curve = self.step_times.decode(batch)
            self._duration = curve.total(self.context, batch, self._steps)
        else:
            self._steps = 0
            self._let_go(float("inf"))
            return
        self._sleep_until(self._now + self._duration)

    def _prefill_time(self, batch: int) -> float:
        """Return the seconds of a step with the planned chunks in it, and remember its shape for the record."""
        tokens = pairs = keys = largest = 0
        for request, chunk in self._chunks:
            end = self.computed[request]
            tokens += chunk
            pairs += chunk * (end - chunk) + chunk * (chunk + 1) // 2
            keys += end
            largest = max(largest, chunk)
        self._shape = (tokens, pairs, keys, len(self._chunks), largest)
        return self.step_times.mixed(batch, self.context, *self._shape)

    def _end_run(self) -> None:
        steps, batch, context, start = self._steps, self.kv.num_decoding, self.context, self._now
        kv = self.kv
        if self._chunks:
            shape = self._shape
            seconds = self._duration
        else:
            shape = (0, 0, 0, 0, 0)
            seconds = self.step_times.decode(batch).total(context, batch, steps) if batch else 0.0
        kv.used += self._growth(steps)
        kv.reserved = 0
        kv.evict()
        now = self._now = start + seconds
        if self._dropped:
            self._let_go(now)
        first = self.counter
        self.counter += steps
        self.context += steps * batch
        self._tick(steps)
        while self._answers and self._answers[0][0] <= self.counter:
            at, request, finish = heappop(self._answers)
            if self.running.get(request) == finish:
                time = now if at == self.counter else start + self._partial(batch, context, at - first)
                self.records.first_answer_s[request] = time
        ended = [
            request
            for request, _chunk in self._chunks
            if request in self.computed and self.computed[request] == self.prefill_length(request)
        ]
        self.runs.append(
            (self.index, start, now, steps, batch, context, *shape, len(ended), kv.used, self._queued)
        )
        while self._finishes and self._finishes[0][0] <= self.counter:
            at, request = heappop(self._finishes)
            if self.running.get(request) == at:
                self._finish_decoding(request)
        for request in ended:
            self._end_prefill(request)
        self._chunks = []

    def _partial(self, batch: int, context: int, steps: int) -> float:
        return self.step_times.decode(batch).total(context, batch, steps)

    def _end_prefill(self, request: int) -> None:
        """The step that completed a prefill also gave a token: start to decode, or finish."""
        records, now = self.records, self._now
        tokens = self.computed.pop(request)
        answer = records.answer_tokens[request]
        left = self.left.pop(request, records.thinking_tokens[request] + answer)
        if isnan(records.first_token_s[request]):
            records.first_token_s[request] = now
        if left == answer:
            records.first_answer_s[request] = now
        left -= 1
        if left == 0:
            del self.running[request]
            self._finished(request, tokens)
            return
        finish = self.counter + left
        self.running[request] = finish
        self._offsets[request] = tokens - self.counter
        self.kv.start_decoding(tokens, self.counter)
        self.context += tokens + 1
        heappush(self._finishes, (finish, request))
        if left >= answer:
            heappush(self._answers, (finish - answer + 1, request, finish))

    def _finish_decoding(self, request: int) -> None:
        del self.running[request]
        self._finished(request, self._stop_decoding(request))

    def _stop_decoding(self, request: int) -> int:
        """Count a sequence no longer among those that decode; return its tokens in cache, still to be freed."""
        tokens = self._offsets.pop(request) + self.counter
        self.kv.stop_decoding(tokens, self.counter)
        self.context -= tokens + 1
        return tokens

    def _finished(self, request: int, tokens: int) -> None:
        self.sharing.finish(request, tokens)
        self.records.finish_s[request] = self._now
        self.records.status[request] = FINISHED
        if self._cancelled.pop(request, None) is None:
            self.on_finish(request, self._now)

    def _let_go(self, now: float) -> None:
        """Drop the prefixes that this replica was told of before `now`."""
        for due, prefix in self._dropped:
            if due <= now:
                self.kv.drop(prefix)
        self._dropped = [each for each in self._dropped if each[0] > now]

    def _take_off(self) -> None:
        """Take cancelled requests off the batch or the queue; their rows keep the tokens that they really made."""
        records = self.records
        queued = set()
        for request in [request for request, due in self._cancelled.items() if due <= self._now]:
            del self._cancelled[request]
            output = records.thinking_tokens[request] + records.answer_tokens[request]
            left = self.left.pop(request, output)
            if request in self.running:
                finish = self.running.pop(request)
                if request in self.computed:
                    self.sharing.release(request, self.computed.pop(request))
                else:
                    left = finish - self.counter
                    self.sharing.release(request, self._stop_decoding(request))
            else:
                queued.add(request)
            self.sharing.forget(request)
            made = output - left
            thinking = min(records.thinking_tokens[request], made)
            records.thinking_tokens[request] = thinking
            records.answer_tokens[request] = made - thinking
            records.finish_s[request] = self._now
            records.status[request] = CANCELLED
        if queued:
            self.waiting = deque(request for request in self.waiting if request not in queued)

    # ---- what the stepwise oracle counts anew ------------------------------------------------------------------

    def _growth(self, steps: int = 1) -> int:
        return self.kv.growth(self.counter, steps)

    def _steps_ahead(self) -> int:
        """Return how many steps the batch goes on unchanged if nobody arrives.

        While somebody waits they end where a prefix is evicted: then less may be enough to let the first of them in.
        """
        while self._finishes and self.running.get(self._finishes[0][1]) != self._finishes[0][0]:
            heappop(self._finishes)  # a preempted sequence
        kv = self.kv
        steps = kv.steps_that_fit(self.counter, self._finishes[0][0] - self.counter)
        if kv.idle and self.waiting:
            steps = min(steps, kv.steps_that_fit(self.counter, steps, kv.idle) + 1)
        return steps

    def _tick(self, steps: int) -> None:
        """Note that `steps` steps have passed."""
