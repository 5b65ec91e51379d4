"""Parallel thinking, and a synthesis."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from clustersim.kinds import register
from clustersim.workload.strategies import AnyStrategy, Strategy
from clustersim.workload.strategies.chain_of_thought import ChainOfThought
from clustersim.workload.tasks import Answer, Llm, Steps, Task, all_of

Share = Annotated[float, Field(ge=0, le=1)]


@register("strategy")
class ParallelThinking(Strategy):
    """Think in n ways side by side, then one call reads a summary of each and answers.

    The synthesis is right with chance `recognises` if any way was right, else as often as a fresh attempt, times
    1 - `recognises` (assumed: no measurement found).
    """

    needs_accuracy: ClassVar = True
    kind: Literal["parallel_thinking"] = "parallel_thinking"
    n: PositiveInt = 4
    """Ways."""
    way: AnyStrategy = ChainOfThought()
    """How each is thought."""
    summary_tokens: PositiveInt = 300
    """Tokens of each way that the synthesis reads."""
    synthesis_thinking: Annotated[int, Field(ge=0)] = 1000
    """Thinking tokens of the synthesis."""
    recognises: Share = 0.7
    examples: ClassVar = (
        {"n": 3},
        {"n": 2, "way": {"kind": "chain_of_thought", "scale": 0.5}, "synthesis_thinking": 0},
    )

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        later = task.fork()
        every = yield from all_of(self.way.run(task, llm) for _ in range(self.n))
        ways = [way for way in every if way.given]
        if not ways:
            return task.give_up(llm)
        sample = later.sample()
        read = task.prompt.plus(len(ways) * self.summary_tokens)
        call = yield llm.generate(read, self.synthesis_thinking, sample.answer)
        chance = llm.success(task.difficulty, 1.0)
        found = any(way.correct for way in ways)
        answer = task.answer(
            [call], sample, shift=self.recognises if found else (1 - self.recognises) * chance
        )
        answer.calls = (*(part for way in ways for part in way.calls), call)
        return answer
