"""Chains of thought of a forced length."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from clustersim.kinds import register
from clustersim.workload.strategies import Strategy
from clustersim.workload.tasks import Answer, Llm, Steps, Task


@register("strategy")
class BudgetForcing(Strategy):
    """Think at least and at most so many tokens: a chain that would stop sooner is made to go on ("Wait").

    Source: Muennighoff et al. 2025, s1, arXiv:2501.19393.
    """

    kind: Literal["budget_forcing"] = "budget_forcing"
    min_thinking: NonNegativeInt = 0
    """Thinking tokens at least."""
    max_thinking: PositiveInt
    """Thinking tokens at most."""
    examples: ClassVar = ({"max_thinking": 1000}, {"min_thinking": 4096, "max_thinking": 16384})

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_thinking > self.max_thinking:
            raise ValueError(f"min_thinking {self.min_thinking} is over max_thinking {self.max_thinking}")
        return self

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        sample = task.sample()
        thinking = min(max(sample.thinking, self.min_thinking), self.max_thinking)
        call = yield llm.generate(task.prompt, thinking, sample.answer)
        return task.answer([call], sample, sample.effort(thinking))
