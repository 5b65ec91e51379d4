"""The sequences of one replica at a step boundary: who waits, who is in the batch, what each still has to make.

Counting: `counter` numbers the engine steps of this replica. A sequence that decodes gains one token a step, so
its finish is a step number that is known when it starts to decode.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import isnan

from clustersim.records import CANCELLED, FINISHED, RequestRecords
from clustersim.serving.adapters import Adapters
from clustersim.serving.contracts import Policy
from clustersim.serving.kv_cache import KvCache
from clustersim.serving.sharing import Sharing


class Batch:
    """What a scheduler acts on.

    waiting: requests in the scheduler's order. running: request -> the counter at whose end its last token appears,
    in order of admission; 0 while it prefills. computed: request -> tokens in cache while it prefills. left: request
    -> output tokens it has still to make, where that is not all. coming: those that are queued at the next step
    boundary. Of a replica whose prompts are prefilled elsewhere, remote: request -> tokens of KV that it waits for room
    for; loading: request -> tokens of KV on their way into blocks that it has. Of one that prefills for others, held:
    request -> tokens of KV that are being fetched.
    """

    def __init__(
        self,
        records: RequestRecords,
        scheduler: Policy,
        kv: KvCache,
        on_finish: Callable[[int, float], None],
        data_parallel: int = 1,
        in_flight: int = 1,
        adapters: Adapters | None = None,
    ) -> None:
        self.records = records
        self.scheduler = scheduler
        self.kv = kv
        self.on_finish = on_finish
        self.data_parallel = data_parallel  # ranks with a batch and a KV cache of their own
        self.in_flight = in_flight  # micro-batches in a step: data_parallel times pipeline stages
        self.adapters = adapters
        self.sharing = Sharing(kv)

        self.waiting = scheduler.queue(records)
        self.running: dict[int, int] = {}
        self.computed: dict[int, int] = {}
        self.left: dict[int, int] = {}
        self.coming: set[int] = set()
        self.remote: dict[int, int] = {}
        self.loading: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.on_room: Callable[[int, float], None] | None = None
        """Told when a remote request has its blocks."""
        self.on_prefilled: Callable[[int, float], None] | None = None
        """If set, this replica only prefills: told when a prompt is done, whose KV it then holds."""

        self.counter = 0
        self.context = 0  # tokens that the decoding sequences attend to in the next step, in all
        self._offsets: dict[int, int] = {}  # decoding sequence -> tokens in cache minus counter
        self._finishes: list[tuple[int, int]] = []
        self._answers: list[tuple[int, int, int]] = []  # (counter, request, finish): first answer token
        self._now = 0.0  # the last step boundary
        self._preempted = False  # in this plan: the next step may admit again
        self.stalled = False
        """Set by a scheduler whose next step only prefills: the sequences that decode stand still in it."""
        self._cancelled: dict[int, float] = {}  # request -> time from which on a boundary takes it off

    # ---- what a scheduler does -------------------------------------------------------------------------------

    def prefill_length(self, request: int) -> int:
        """Return the tokens a waiting request must prefill: its input, and after a preemption its output so far."""
        records = self.records
        if request not in self.left:
            return records.input_tokens[request]
        output = records.thinking_tokens[request] + records.answer_tokens[request]
        return records.input_tokens[request] + output - self.left[request]

    def to_prefill(self, request: int) -> int:
        """Return the tokens a waiting request would have to compute if it were admitted now: those not in cache."""
        if request in self.remote:
            return 0
        return self.prefill_length(request) - self.sharing.cached(request)

    def tokens_to_prefill(self) -> int:
        """Return the tokens that this replica has yet to take up: of requests that wait, and of prompts in progress."""
        rest = sum(self.prefill_length(request) - done for request, done in self.computed.items())
        return rest + sum(map(self.to_prefill, self.waiting)) + sum(map(self.to_prefill, self.coming))

    def num_slots_taken(self) -> int:
        """Return the sequences that count against the batch's limit: those in it, and those whose KV is on its way."""
        return len(self.running) + len(self.loading)

    def make_room_to_decode(self) -> bool:
        """Preempt sequences until every decoding one can grow by a token; True if any was."""
        preempted = False
        while (need := self._growth()) > self.kv.num_blocks - self.kv.used:
            self.preempt(self.scheduler.victim(self))
            preempted = True
        self.kv.reserved = need
        return preempted

    def admit(self, tokens: int) -> bool:
        """Start to prefill the head of the queue with `tokens` tokens; False, and no change, if KV has no room.

        One whose prompt was prefilled elsewhere gets blocks for its KV, which is then sent for.
        """
        request = self.waiting[0]
        if request in self.remote:
            return self._admit_remote(request)
        cached = self.sharing.admit(request, tokens)
        if cached is None:
            return False
        self.waiting.popleft()
        self.running[request] = 0
        self.computed[request] = cached + tokens
        if self.adapters is not None:
            self.adapters.use(request)
        if isnan(self.records.scheduled_s[request]):
            self.records.scheduled_s[request] = self._now
            self.records.cached_tokens[request] = cached
        return True

    def _admit_remote(self, request: int) -> bool:
        tokens = self.remote[request]
        if not self.kv.allocate(0, tokens):
            return False
        self.waiting.popleft()
        del self.remote[request]
        self.loading[request] = tokens
        if self.adapters is not None:
            self.adapters.use(request)
        if self.on_room is not None:
            self.on_room(request, self._now)
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
        if self.adapters is not None:
            self.adapters.leave(request)
        self.records.num_preemptions[request] += 1
        self.waiting.appendleft(request)

    # ---- what the end of a run brings ------------------------------------------------------------------------

    def _pass_answers(self, time_of: Callable[[int], float]) -> None:
        """Note the first answer tokens up to now; `time_of(counter)` says when that step ended."""
        answers = self._answers
        while answers and answers[0][0] <= self.counter:
            at, request, finish = heappop(answers)
            if self.running.get(request) == finish:
                self.records.first_answer_s[request] = self._now if at == self.counter else time_of(at)

    def _pass_finishes(self) -> None:
        finishes, running = self._finishes, self.running
        while finishes and finishes[0][0] <= self.counter:
            at, request = heappop(finishes)
            if running.get(request) == at:
                del running[request]
                self._finished(request, self._stop_decoding(request))

    def _end_prefill(self, request: int) -> None:
        """The step that completed a prefill also gave a token: start to decode, hand over, or finish."""
        records, now = self.records, self._now
        tokens = self.computed.pop(request)
        left = self.left.pop(request, None)
        answer = records.answer_tokens[request]
        if left is None:
            left = records.thinking_tokens[request] + answer
        if isnan(records.first_token_s[request]):
            records.first_token_s[request] = now
        if left == answer:
            records.first_answer_s[request] = now
        left -= 1
        if left == 0:
            del self.running[request]
            self._finished(request, tokens)
        elif self.on_prefilled is not None:
            del self.running[request]
            if self.adapters is not None:
                self.adapters.leave(request)
            self.held[request] = tokens
            self.left[request] = left
            if request not in self._cancelled:
                self.on_prefilled(request, now)
        else:
            self._start_decoding(request, tokens, left, answer)

    def _start_decoding(self, request: int, tokens: int, left: int, answer: int) -> None:
        finish = self.counter + left
        self.running[request] = finish
        self._offsets[request] = tokens - self.counter
        self.kv.start_decoding(tokens, self.counter)
        self.context += tokens + 1
        heappush(self._finishes, (finish, request))
        if left >= answer:
            heappush(self._answers, (finish - answer + 1, request, finish))

    def _join(self, request: int) -> None:
        """The KV of a remote request is here: it decodes from the next step on."""
        tokens = self.loading.pop(request)
        self._start_decoding(request, tokens, self.left.pop(request), self.records.answer_tokens[request])

    def _release_held(self, request: int) -> None:
        """The KV that was held for another replica has arrived there, or is not wanted any more."""
        tokens = self.held.pop(request)
        self.left.pop(request, None)
        self.sharing.finish(request, tokens)

    def _stop_decoding(self, request: int) -> int:
        """Count a sequence no longer among those that decode; return its tokens in cache, still to be freed."""
        tokens = self._offsets.pop(request) + self.counter
        self.kv.stop_decoding(tokens, self.counter)
        self.context -= tokens + 1
        return tokens

    def _finished(self, request: int, tokens: int) -> None:
        self.sharing.finish(request, tokens)
        if self.adapters is not None:
            self.adapters.leave(request)
        self.records.finish_s[request] = self._now
        self.records.status[request] = FINISHED
        if self._cancelled.pop(request, None) is None:
            self.on_finish(request, self._now)

    def _take_off(self) -> None:
        """Take cancelled requests off the batch or the queue; their rows keep the tokens that they really made."""
        for request in [request for request, due in self._cancelled.items() if due <= self._now]:
            del self._cancelled[request]
            self._write_off(request, self._now)

    def _write_off(self, request: int, now: float) -> None:
        made, _ = self._remove(request)
        records = self.records
        thinking = min(records.thinking_tokens[request], made)
        records.thinking_tokens[request] = thinking
        records.answer_tokens[request] = made - thinking
        records.finish_s[request] = now
        records.status[request] = CANCELLED

    def _remove(self, request: int) -> tuple[int, bool]:
        """Take a request off wherever it is; return the output tokens it had made, and whether it was queued."""
        records = self.records
        output = records.thinking_tokens[request] + records.answer_tokens[request]
        left = self.left.pop(request, output)
        queued = False
        in_batch = True
        if request in self.running:
            finish = self.running.pop(request)
            if request in self.computed:
                self.sharing.release(request, self.computed.pop(request))
            else:
                left = finish - self.counter
                self.sharing.release(request, self._stop_decoding(request))
        elif request in self.loading:
            self.kv.free(self.loading.pop(request))
        elif request in self.held:
            self.sharing.finish(request, self.held.pop(request))
            in_batch = False
        else:
            queued, in_batch = True, False
            self.remote.pop(request, None)
            self.waiting.remove(request)
        if in_batch and self.adapters is not None:
            self.adapters.leave(request)
        self.sharing.forget(request)
        return output - left, queued

    def _is_prefilled(self, request: int) -> bool:
        return self.computed.get(request) == self.prefill_length(request)

    # ---- what the stepwise oracle counts anew ----------------------------------------------------------------

    def _growth(self, steps: int = 1) -> int:
        return self.kv.growth(self.counter, steps)

    def _steps_ahead(self) -> int:
        """Return how many steps the batch goes on unchanged if nobody arrives.

        While somebody waits they end where a prefix is evicted: then less may be enough to let the first of them in.
        So they do where a slower tier takes what is evicted, at that time.
        """
        finishes, running, kv = self._finishes, self.running, self.kv
        while running.get(finishes[0][1]) != finishes[0][0]:
            heappop(finishes)  # a preempted sequence
        steps = finishes[0][0] - self.counter
        if kv.num_decoding * (steps // kv.block_size + 1) > kv.num_blocks - kv.used:
            steps = kv.steps_that_fit(self.counter, steps)
        if kv.idle and (self.waiting or kv.below is not None):
            steps = min(steps, kv.steps_that_fit(self.counter, steps, kv.idle) + 1)
        return steps

    #: Whether everything is counted anew after each run.
    _recounts = False

    def _recount(self, steps: int) -> None:
        """Check what is counted against what is there, after `steps` steps."""
