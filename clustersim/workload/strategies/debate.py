"""Debate: several agents answer, read one another, and answer again."""

from __future__ import annotations

from math import isnan
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from clustersim.kinds import register
from clustersim.workload.strategies import Strategy
from clustersim.workload.tasks import Answer, Call, Llm, Steps, Task, all_of

Share = Annotated[float, Field(ge=0, le=1)]


@register("strategy")
class Debate(Strategy):
    """`agents` answer side by side; in each further round all read all answers and think again; then they vote.

    A wrong agent that reads a right answer adopts it with chance `convinced`; a right one that reads only wrong ones
    gives in with chance `misled` (both assumed). The majority decides. Source of the form: Du et al. 2023,
    arXiv:2305.14325.
    """

    needs_accuracy: ClassVar = True
    kind: Literal["debate"] = "debate"
    agents: Annotated[int, Field(ge=2)] = 3
    rounds: PositiveInt = 2
    """Rounds in all, the first included."""
    rebuttal_tokens: NonNegativeInt = 500
    """Thinking tokens of each later round."""
    convinced: Share = 0.5
    misled: Share = 0.2
    examples: ClassVar = ({}, {"agents": 2, "rounds": 3, "rebuttal_tokens": 0})

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        check_luck = task.fork().rng.random()
        speakers = yield from all_of(self._speak(task, llm, _Speaker(task), None) for _ in range(self.agents))
        for _ in range(self.rounds - 1):
            right = sum(bool(speaker.right) for speaker in speakers)
            speakers = yield from all_of(
                self._speak(speaker.later, llm, speaker, right) for speaker in speakers
            )
        if not all(speaker.calls and speaker.calls[-1].ok for speaker in speakers):
            return task.give_up(llm)
        votes = sum(bool(speaker.right) for speaker in speakers)
        won = 2 * votes > self.agents
        calls = tuple(call for speaker in speakers for call in speaker.calls)
        known = speakers[0].right is not None
        return Answer(calls, won if known else None, llm.now, check_luck)

    def _speak(self, task: Task, llm: Llm, speaker: _Speaker, right: int | None) -> Steps[_Speaker]:
        """Let a speaker think and answer; right: how many speakers were right in the round before, None at first."""
        if speaker.calls and not speaker.calls[-1].ok:
            return speaker
        sample = task.sample()
        thinking = sample.thinking if right is None else self.rebuttal_tokens
        call = yield llm.generate(speaker.context, thinking, sample.answer, keep=True)
        speaker.calls.append(call)
        speaker.context = call.after.plus((self.agents - 1) * sample.answer)
        chance = llm.success(task.difficulty, 1.0)
        if not isnan(chance):
            if right is None:
                speaker.right = sample.luck < chance
            elif speaker.right:
                speaker.right = right > 1 or not sample.luck < self.misled
            else:
                speaker.right = right > 0 and sample.luck < self.convinced
        return speaker


class _Speaker:
    """One side of a debate."""

    __slots__ = ("calls", "context", "later", "right")

    def __init__(self, task: Task) -> None:
        self.later = task.fork()
        self.context = task.prompt
        self.calls: list[Call] = []
        self.right: bool | None = None
