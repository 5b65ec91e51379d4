"""Sequential revision: look at the answer, and do it again."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from clustersim.kinds import register
from clustersim.workload.strategies import AnyStrategy, Strategy
from clustersim.workload.strategies.chain_of_thought import ChainOfThought
from clustersim.workload.tasks import Answer, Llm, Steps, Task

Share = Annotated[float, Field(ge=0, le=1)]


@register("strategy")
class Revise(Strategy):
    """Answer, then up to `rounds` times criticise the answer and, if it seems wrong, think and answer again.

    The critique sees a wrong answer as wrong with chance `detects`, and takes a right one for wrong with chance
    `doubts`; a revision of a wrong answer is right with the chance that a fresh attempt has, times `repairs`; one of a
    right answer stays right with chance 1 - `breaks`. Each round goes on from the KV of the last.
    """

    needs_accuracy: ClassVar = True
    kind: Literal["revise"] = "revise"
    rounds: PositiveInt = 2
    critique_tokens: NonNegativeInt = 300
    """Thinking tokens of each critique."""
    detects: Share = 0.5
    """Assumed: self-critique without outside feedback is weak (Huang et al. 2023, arXiv:2310.01798)."""
    doubts: Share = 0.1
    """Assumed."""
    repairs: Share = 0.5
    """Assumed: errors of one chain come again in the next."""
    breaks: Share = 0.3
    """Assumed."""
    first: AnyStrategy = ChainOfThought()
    """How the first answer is made."""
    examples: ClassVar = ({"rounds": 2}, {"rounds": 1, "critique_tokens": 0, "detects": 1, "doubts": 0})

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        later = task.fork()
        answer = yield from self.first.run(task, llm.keeping())
        if not answer.given:
            return answer
        context = answer.calls[-1].after
        calls = answer.calls
        correct = answer.correct
        for _ in range(self.rounds):
            sample = later.sample()
            critique = yield llm.generate(context, self.critique_tokens, 1, keep=True)
            if not critique.ok:
                break
            calls = (*calls, critique)
            if not sample.check_luck < (self.doubts if correct else self.detects):
                break
            revision = yield llm.generate(critique.after, sample.thinking, sample.answer, keep=True)
            if not revision.ok:
                break
            calls = (*calls, revision)
            context = revision.after
            chance = llm.success(task.difficulty, 1.0)
            if correct is not None:
                correct = sample.luck < (1 - self.breaks if correct else self.repairs * chance)
        return Answer(calls, correct, llm.now, answer.check_luck)
