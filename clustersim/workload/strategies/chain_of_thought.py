"""A chain of thought."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.workload.strategies import Strategy
from clustersim.workload.tasks import Answer, Llm, Steps, Task


@register("strategy")
class ChainOfThought(Strategy):
    """Think as long as the problem takes, then answer.

    The length is the problem's own, longer for harder problems, and varies from attempt to attempt.
    """

    kind: Literal["chain_of_thought"] = "chain_of_thought"
    scale: Annotated[float, Field(gt=0)] = 1.0
    """Thinking tokens, as a multiple of the natural length: a model told to think harder, or less."""
    examples: ClassVar = ({}, {"scale": 2.0})

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        sample = task.sample()
        thinking = round(sample.thinking * self.scale)
        call = yield llm.generate(task.prompt, thinking, sample.answer)
        return task.answer([call], sample, sample.effort(thinking))
