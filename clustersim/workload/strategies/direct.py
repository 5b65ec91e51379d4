"""A direct answer."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.workload.strategies import Strategy
from clustersim.workload.tasks import Answer, Llm, Steps, Task


@register("strategy")
class Direct(Strategy):
    """Answer at once, without thinking.

    The tokens of the answer are then all its serial computation: the chance of success is that of so many thinking
    tokens, at most that of natural thinking.
    """

    kind: Literal["direct"] = "direct"
    examples: ClassVar = ({},)

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        sample = task.sample()
        call = yield llm.generate(task.prompt, 0, sample.answer)
        return task.answer([call], sample, sample.effort(min(sample.answer, sample.thinking)))
