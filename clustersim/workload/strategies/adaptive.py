"""One model that thinks as long as each query needs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clustersim.kinds import register
from clustersim.workload.strategies import Strategy
from clustersim.workload.tasks import Answer, Llm, Steps, Task


@register("strategy")
class Adaptive(Strategy):
    """Think just as long as brings the chance of success to a target, within bounds: one model for easy and hard.

    It judges difficulty itself, with an error: the quantile that it takes a problem to have is off by a normal error
    of `misjudgement`, kept within 0 and 1. Where the target is out of reach it thinks as little as it may.
    """

    needs_accuracy: ClassVar = True
    kind: Literal["adaptive"] = "adaptive"
    target: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Chance of success after which more thinking is not worth it."""
    min_scale: Annotated[float, Field(gt=0)] = 0.05
    """Least thinking, as a multiple of the natural length."""
    max_scale: Annotated[float, Field(gt=0)] = 4.0
    """Most thinking, as a multiple of the natural length."""
    misjudgement: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the error in the quantile of difficulty. Assumed: no measurement found."""
    examples: ClassVar = ({}, {"target": 0.5, "misjudgement": 0})

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_scale > self.max_scale:
            raise ValueError(f"min_scale {self.min_scale:g} is over max_scale {self.max_scale:g}")
        return self

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        sample = task.sample()
        seen = min(1.0, max(0.0, task.difficulty + self.misjudgement * task.rng.gauss(0.0, 1.0)))
        scale = self._scale(llm, seen)
        thinking = round(sample.thinking * scale)
        call = yield llm.generate(task.prompt, thinking, sample.answer)
        return task.answer([call], sample, sample.effort(thinking))

    def _scale(self, llm: Llm, difficulty: float) -> float:
        """Return the least scale that reaches the target, by bisection in its logarithm to 1 %."""
        low, high = self.min_scale, self.max_scale
        if llm.success(difficulty, low) >= self.target:
            return low
        if llm.success(difficulty, high) < self.target:
            return low  # out of reach: thinking would be wasted
        while high / low > 1.01:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if llm.success(difficulty, middle) >= self.target else (middle, high)
        return high
