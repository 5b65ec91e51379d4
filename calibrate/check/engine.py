"""A minimal engine that batches continuously, as vLLM V1 does: what the simulator's replica is held against.

Source of the schedule: vllm/v1/core/sched/scheduler.py, `Scheduler.schedule`: sequences that run come first, a token
for each that decodes, then prompts first come first served up to a token budget; where pages run out the sequence
admitted last is preempted and computed anew, and nobody is admitted in that step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from calibrate.check.model import PAGE, Chunk


class Model(Protocol):
    """What the engine asks of a model: to carry out one step, `decoding` first, on the clock it keeps."""

    num_pages: int

    def step(self, decoding: Sequence[Chunk], prefilling: Sequence[Chunk]) -> None:
        """Carry out one step."""


class WorkClock:
    """The CPU time of this thread, and skipped idle time: what other programs take from the core is not on it."""

    def __init__(self, read: Callable[[], float] = time.thread_time) -> None:
        self.read = read
        self._shift = -read()

    def now(self) -> float:
        """Return seconds since the clock was made."""
        return self.read() + self._shift

    def skip_to(self, at_s: float) -> None:
        """Let idle time pass at once."""
        self._shift += max(0.0, at_s - self.now())


@dataclass
class Served:
    """One request and what became of it; times in seconds on the engine's clock."""

    arrival_s: float
    input_tokens: int
    output_tokens: int
    computed: int = 0
    """Tokens in the cache."""
    made: int = 0
    """Output tokens so far."""
    pages: list[int] = field(default_factory=list)
    first_token_s: float = float("nan")
    finish_s: float = float("nan")
    num_preemptions: int = 0

    @property
    def known(self) -> int:
        """Tokens that exist: the prompt and what was made."""
        return self.input_tokens + self.made

    @property
    def decodes(self) -> bool:
        """Whether all but its last token are in the cache."""
        return self.made > 0 and self.computed == self.known - 1


class Engine:
    """Serves requests to their end on one model."""

    def __init__(
        self, model: Model, clock: WorkClock, token_budget: int = 2048, max_num_seqs: int = 256
    ) -> None:
        self.model, self.clock = model, clock
        self.token_budget, self.max_num_seqs = token_budget, max_num_seqs
        self.free = deque(range(model.num_pages))
        self.waiting: deque[Served] = deque()
        self.running: list[Served] = []
        self.num_steps = 0

    def serve(self, requests: Sequence[Served]) -> None:
        """Serve requests in order of arrival; their times are filled in."""
        upcoming = deque(requests)
        while upcoming or self.waiting or self.running:
            if not self.waiting and not self.running:
                self.clock.skip_to(upcoming[0].arrival_s)
            now = self.clock.now()
            while upcoming and upcoming[0].arrival_s <= now:
                self.waiting.append(upcoming.popleft())
            self.step()

    def step(self) -> None:
        """Schedule one step and carry it out."""
        work = self.schedule()
        if not work:
            if self.waiting and not self.running:
                raise ValueError(f"a prompt of {self.waiting[0].known} tokens exceeds the cache")
            return
        decoding = [(seq, tokens) for seq, tokens in work if seq.decodes]
        others = [(seq, tokens) for seq, tokens in work if not seq.decodes]
        self.model.step(
            *([Chunk(n, seq.computed, seq.pages) for seq, n in each] for each in (decoding, others))
        )
        self.num_steps += 1
        now = self.clock.now()
        for seq, tokens in work:
            seq.computed += tokens
            if seq.computed == seq.known:
                self._made_token(seq, now)

    def schedule(self) -> list[tuple[Served, int]]:
        """Return the sequences of the next step and their new tokens; pages for them are taken."""
        budget, work, preempted = self.token_budget, list[tuple[Served, int]](), False
        for seq in list(self.running):
            tokens = min(seq.known - seq.computed, budget)
            if tokens <= 0 or seq not in self.running:
                continue
            while not self._grow(seq, tokens):
                preempted = True
                self._preempt(self.running[-1])
                if seq not in self.running:
                    break
            else:
                work.append((seq, tokens))
                budget -= tokens
        work = [(seq, tokens) for seq, tokens in work if seq in self.running]
        while self.waiting and not preempted and budget > 0 and len(self.running) < self.max_num_seqs:
            seq = self.waiting[0]
            tokens = min(seq.known - seq.computed, budget)
            if not self._grow(seq, tokens):
                break
            self.running.append(self.waiting.popleft())
            work.append((seq, tokens))
            budget -= tokens
        return work

    def _grow(self, seq: Served, tokens: int) -> bool:
        needed = -(-(seq.computed + tokens) // PAGE) - len(seq.pages)
        if needed > len(self.free):
            return False
        seq.pages += [self.free.popleft() for _ in range(needed)]
        return True

    def _preempt(self, seq: Served) -> None:
        self.running.remove(seq)
        self._release(seq)
        seq.computed, seq.num_preemptions = 0, seq.num_preemptions + 1
        self.waiting.appendleft(seq)

    def _release(self, seq: Served) -> None:
        self.free.extend(seq.pages)
        seq.pages = []

    def _made_token(self, seq: Served, now: float) -> None:
        seq.made += 1
        if seq.made == 1:
            seq.first_token_s = now
        if seq.made == seq.output_tokens:
            seq.finish_s = now
            self.running.remove(seq)
            self._release(seq)
