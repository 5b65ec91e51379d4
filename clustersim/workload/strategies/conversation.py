"""A conversation: a user who reads, thinks and asks again, in a context that grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from clustersim.kinds import Value, register
from clustersim.randomness import stream
from clustersim.workload.distributions import AnyDistribution, Distribution, check_reach
from clustersim.workload.distributions.fixed import Fixed
from clustersim.workload.distributions.geometric import Geometric
from clustersim.workload.distributions.lognormal import Lognormal
from clustersim.workload.durations import AnyDuration
from clustersim.workload.strategies import Strategy
from clustersim.workload.tasks import Answer, Call, Context, Llm, Steps, Task


class Tools(Value):
    """Tools that the model calls within a turn, before it answers. All assumed: no public trace has them."""

    calls: AnyDistribution = Field(default=Fixed(value=1), validate_default=True)
    """Calls in a turn, each a request of its own."""
    call_tokens: PositiveInt = 100
    """Output tokens of a call, beyond thinking."""
    time_s: AnyDuration = Field(default=Fixed(value=2.0), validate_default=True)
    """How long a tool takes."""
    result: AnyDistribution = Field(default=Fixed(value=1000), validate_default=True)
    """Tokens that it returns into the context."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        check_reach("calls", self.calls, 0)
        check_reach("result", self.result, 0)
        return self


class Turn(NamedTuple):
    """What chance has in store for one turn. waits_s, results: of its tool calls, one each."""

    think_s: float
    new: int
    thinking: int
    answer: int
    waits_s: list[float]
    results: list[int]


@register("strategy")
class Conversation(Strategy):
    """The user asks, reads the answer, thinks, and asks again with everything before as context.

    The task is the first turn; `turns` says how many there are, and the other settings what the later ones are like.
    What was thought stays in the context with the answer. While the user thinks and tools run, the KV waits in the
    cache, and is evicted if others need the room: then it is computed anew. The session ends after its turns, or before
    the first that would not fit whole into the longest context that a replica can hold: nothing is cut off or
    forgotten. One with a turn that is refused gives up. The first token that the user sees is that of the first answer;
    the time of the task includes the user's own. It is right as a plain attempt at its task is.

    A conversation of several turns in DeepSeek-R1 traffic has 3.5 on average, with some 100 s and a long tail between
    them (ServeGen, Xiang et al., arXiv:2505.09999). The geometric and lognormal forms and the widths are assumed.
    """

    kind: Literal["conversation"] = "conversation"
    turns: AnyDistribution = Field(default=Geometric(mean=3.5), validate_default=True)
    """Turns of a session."""
    new: AnyDistribution | None = None
    """Tokens that the user adds in a later turn; as many as the task's prompt if not given."""
    thinking: AnyDistribution | None = None
    """Thinking tokens of a later turn; drawn about the task's own, as for any attempt at it, if not given."""
    answer: AnyDistribution | None = None
    """Answer tokens of a later turn; as many as the task's if not given."""
    think_time_s: AnyDuration = Field(
        default=Lognormal(median=100.0, sigma=1.0, max=3600.0), validate_default=True
    )
    """From the last token of an answer to the user's next turn."""
    tools: Tools | None = None
    """Tools called within every turn; none if not given."""
    examples: ClassVar = (
        {"turns": 3, "new": 20, "think_time": "1 s"},
        {
            "turns": {"kind": "geometric", "mean": 2, "max": 4},
            "new": {"kind": "uniform", "low": 5, "high": 20},
            "thinking": 8,
            "answer": {"kind": "lognormal", "median": 10, "sigma": 0.5, "max": 40},
            "think_time": {"kind": "lognormal", "median": "2 s", "sigma": 1},
            "tools": {"calls": {"kind": "uniform", "low": 0, "high": 2}, "time": "0.1 s", "result": 30},
        },
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        for name, least in (("turns", 1), ("new", 1), ("thinking", 0), ("answer", 1)):
            distribution = getattr(self, name)
            if distribution is not None:
                check_reach(name, distribution, least)
        return self

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        sample, rest = task.sample(), task.fork()
        turns = list(self._turns(task, rest, sample.thinking))
        context, calls = task.prompt, list[Call]()
        first_s = float("nan")
        for number, turn in enumerate(turns):
            if number:
                if llm.room(calls[-1].after) < self._tokens(turn):
                    break
                if turn.think_s:
                    yield llm.sleep(turn.think_s)
                context = calls[-1].after.plus(turn.new)
            yield from self._answer(turn, context, llm, calls, last=number == len(turns) - 1)
            if not calls[-1].ok:
                break
            if not number:
                first_s = calls[-1].first_answer_s
        answer = task.answer(calls, sample)
        answer.first_s = first_s
        return answer

    def _answer(
        self, turn: Turn, context: Context, llm: Llm, calls: list[Call], *, last: bool
    ) -> Steps[None]:
        """Make one turn's requests, thinking spread evenly over them; add them to `calls`, to the first refused."""
        share = turn.thinking // (len(turn.waits_s) + 1)
        for wait_s, result in zip(turn.waits_s, turn.results, strict=True):
            assert self.tools is not None
            call = yield llm.generate(context, share, self.tools.call_tokens, keep=True)
            calls.append(call)
            if not call.ok:
                return
            if wait_s:
                yield llm.sleep(wait_s)
            context = call.after.plus(result)
        left = turn.thinking - share * len(turn.waits_s)
        calls.append((yield llm.generate(context, left, turn.answer, keep=not last)))

    def _tokens(self, turn: Turn) -> int:
        """Return the tokens that a turn adds to the context."""
        called = self.tools.call_tokens * len(turn.waits_s) if self.tools is not None else 0
        return turn.new + turn.thinking + turn.answer + sum(turn.results) + called

    def _turns(self, task: Task, rest: Task, thinking: int) -> Iterator[Turn]:
        """Yield the turns of a session, all drawn before it starts; a stream for each of what they are made of.

        thinking: that of the first turn.
        """
        seed = rest.rng.getrandbits(63)

        def counts(name: str, distribution: Distribution, num: int, least: int) -> list[int]:
            drawn: list[int] = distribution.sample_counts(stream(seed, name), num, least).tolist()
            return drawn

        num = counts("turns", self.turns, 1, 1)[0]
        new, answers = [task.prompt.tokens] * num, [task.answer_tokens] * num
        if self.new is not None:
            new[1:] = counts("new", self.new, num - 1, 1)
        if self.answer is not None:
            answers[1:] = counts("answer", self.answer, num - 1, 1)
        if self.thinking is not None:
            thought = [thinking, *counts("thinking", self.thinking, num - 1, 0)]
        else:
            thought = [thinking, *(rest.sample().thinking for _ in range(num - 1))]
        think_s = [0.0, *self.think_time_s.sample(stream(seed, "think"), num - 1).tolist()]
        waits_s: list[list[float]] = [[] for _ in range(num)]
        results: list[list[int]] = [[] for _ in range(num)]
        if self.tools is not None:
            calls = counts("calls", self.tools.calls, num, 0)
            total, ends = sum(calls), np.cumsum(calls).tolist()
            took = self.tools.time_s.sample(stream(seed, "tools"), total).tolist()
            told = counts("results", self.tools.result, total, 0)
            waits_s = [took[end - count : end] for count, end in zip(calls, ends, strict=True)]
            results = [told[end - count : end] for count, end in zip(calls, ends, strict=True)]
        for row in zip(think_s, new, thought, answers, waits_s, results, strict=True):
            yield Turn(*row)
