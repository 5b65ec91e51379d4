"""A router between a cheap and a strong tier."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.workload.strategies.two_tiers import TwoTiers
from clustersim.workload.tasks import Answer, Llm, Steps, Task

Share = Annotated[float, Field(ge=0, le=1)]


@register("strategy")
class Route(TwoTiers):
    """Send the harder share of queries to the strong strategy and the others to the cheap one, by a fallible guess.

    A query is hard if its quantile of difficulty is over 1 - `hard_share`. The router sees a hard one as hard with
    chance `finds_hard`, and takes an easy one for hard with chance `false_alarms`.
    """

    kind: Literal["route"] = "route"
    hard_share: Share = 0.1
    """Share of the queries that need the strong strategy."""
    finds_hard: Share = 0.9
    false_alarms: Share = 0.05
    examples: ClassVar = (
        {"cheap": "direct"},
        {"cheap": "direct", "finds_hard": 1, "false_alarms": 0, "hard_share": 0.5},
    )

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        hard = task.difficulty > 1 - self.hard_share
        strong = task.rng.random() < (self.finds_hard if hard else self.false_alarms)
        inner, to = (self.strong, self.strong_to) if strong else (self.cheap, self.cheap_to)
        answer: Answer = yield from inner.run(task, llm.on(to))
        return answer
