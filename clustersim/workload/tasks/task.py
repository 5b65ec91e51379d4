"""A task: one query to a reasoning service, answered by a program of requests; and what that program sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from random import Random
from typing import Protocol

from clustersim.records import CANDIDATE
from clustersim.workload.tasks.program import Future


class Context:
    """Tokens that a request goes on from: a prompt, or what a finished call left, and what was added to it.

    parent: what it extends, whose KV it shares where that is still cached.
    """

    __slots__ = ("nodes", "parent", "tokens")

    def __init__(self, tokens: int, parent: Context | None = None) -> None:
        self.tokens = tokens
        self.parent = parent
        self.nodes: dict[int, object] = {}
        """Replica -> the shared prefix there."""

    def plus(self, tokens: int) -> Context:
        """Return this context followed by `tokens` new tokens."""
        return Context(self.tokens + tokens, self)


class Call(Future["Call"]):
    """One request of a task: resolved when its last token is there, with itself as value.

    context: what it goes on from. after: the context it leaves (its input and output) if it was kept, as `keep` says.
    ok: False if it was refused, or died with its replica.
    """

    __slots__ = (
        "after", "context", "finish_s", "first_answer_s", "keep", "llm", "ok", "output_tokens", "request",
    )  # fmt: skip

    def __init__(self, llm: Llm, output_tokens: int, context: Context, after: Context, keep: bool) -> None:
        super().__init__()
        self.llm = llm
        self.context = context
        self.keep = keep
        self.output_tokens = output_tokens
        self.after = after
        self.request = -1
        self.ok = True
        self.first_answer_s = self.finish_s = float("nan")

    def cancel(self) -> None:
        """Take it off its replica."""
        if not self.done:
            super().cancel()
            self.llm.cancel(self)


class Llm(Protocol):
    """A deployment, as a program sees it."""

    @property
    def now(self) -> float:
        """Simulated time in seconds."""

    def on(self, deployment: str | None) -> Llm:
        """Return the client of another deployment; of this one for None."""

    def generate(
        self, context: Context, thinking: int, answer: int, *, keep: bool = False, role: int = CANDIDATE
    ) -> Call:
        """Send a request of these tokens; `keep` its KV for requests that go on from it."""

    def cancel(self, call: Call) -> None:
        """Take a call off its replica."""

    def keeping(self) -> Llm:
        """Return this client, keeping the KV of every call."""

    def drop(self, context: Context) -> None:
        """Nothing goes on from this context any more: free its KV."""

    def sleep(self, seconds: float) -> Future[None]:
        """Return what is resolved in so many seconds."""

    def room(self, context: Context) -> int:
        """Return the tokens that a request may still make after this context."""

    def success(self, quantile: float, effort: float) -> float:
        """Return the chance of a right answer to the problem at this quantile of difficulty.

        effort: thinking tokens over those it would take by nature. nan where no benchmark is given.
        """


@dataclass(frozen=True, slots=True)
class Sample:
    """What chance has in store for one attempt: drawn when it starts, so that it does not depend on what is slow."""

    thinking: int
    """Tokens it thinks by nature."""
    answer: int
    luck: float
    """Uniform in [0, 1): right if below the chance of success."""
    check_luck: float
    """The same for whoever checks it."""

    def effort(self, thinking: int) -> float:
        """Return what so many thinking tokens are in natural lengths; none count as one, the least the law knows."""
        return max(1, thinking) / max(1, self.thinking)


@dataclass(slots=True)
class Answer:
    """What a program returns."""

    calls: tuple[Call, ...]
    """The calls whose tokens led to this answer."""
    correct: bool | None
    """None where no benchmark says what is right."""
    first_s: float
    """When its first token can be shown to who asked."""
    check_luck: float = 0.0
    given: bool = True
    """False: the program gave up."""

    @property
    def output_tokens(self) -> int:
        """Tokens made on the way to it."""
        return sum(call.output_tokens for call in self.calls)


class Task:
    """One query. difficulty: its quantile among the problems of its benchmark, 0 easiest, 1 hardest."""

    __slots__ = (
        "_forks", "_seed", "answer_tokens", "difficulty", "index", "prompt", "rng", "spread", "thinking_tokens",
    )  # fmt: skip

    def __init__(
        self, index: int, input_tokens: int, thinking_tokens: int, answer_tokens: int, difficulty: float,
        spread: float, seed: str,
    ) -> None:  # fmt: skip
        self._seed = seed
        self._forks = 0
        self.index = index
        self.prompt = Context(input_tokens)
        self.thinking_tokens = thinking_tokens
        self.answer_tokens = answer_tokens
        self.difficulty = difficulty
        self.spread = spread
        self.rng = Random(seed)

    def fork(self) -> Task:
        """Return the same query with chance of its own, for who draws again after waiting.

        Taken before the first wait it makes what is drawn independent of which of several attempts is slow.
        """
        self._forks += 1
        fork = Task(
            self.index, 0, self.thinking_tokens, self.answer_tokens, self.difficulty, self.spread,
            f"{self._seed}/{self._forks}",
        )  # fmt: skip
        fork.prompt = self.prompt
        return fork

    def sample(self) -> Sample:
        """Return an attempt: its length varies about the problem's own, log-normally with sigma `spread`."""
        rng = self.rng
        thinking = self.thinking_tokens
        if self.spread and thinking:
            # The mean over attempts is the problem's own length.
            thinking = max(1, round(thinking * rng.lognormvariate(-(self.spread**2) / 2, self.spread)))
        return Sample(thinking, self.answer_tokens, rng.random(), rng.random())

    def answer(
        self, calls: Sequence[Call], sample: Sample, effort: float = 1.0, shift: float | None = None
    ) -> Answer:
        """Return the answer at the end of `calls`: right by the luck of `sample` at this effort.

        shift: a chance of success to use in place of the model's own.
        """
        last = calls[-1]
        if not all(call.ok for call in calls):
            return Answer(tuple(calls), self.wrong(last), last.finish_s, sample.check_luck, given=False)
        chance = last.llm.success(self.difficulty, effort) if shift is None else shift
        correct = None if isnan(chance) else sample.luck < chance
        return Answer(tuple(calls), correct, last.first_answer_s, sample.check_luck)

    def give_up(self, llm: Llm) -> Answer:
        """Return no answer."""
        known = llm.success(self.difficulty, 1.0)
        return Answer((), None if isnan(known) else False, float("nan"), given=False)

    def wrong(self, call: Call) -> bool | None:
        """Return what an answer that is not there counts as: wrong, or nothing where there is no benchmark."""
        known = call.llm.success(self.difficulty, 1.0)
        return None if isnan(known) else False
