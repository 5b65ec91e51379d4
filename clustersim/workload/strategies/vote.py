"""Self-consistency: many samples, the most frequent answer."""

from __future__ import annotations

from math import floor
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from clustersim.kinds import register
from clustersim.workload.strategies import AnyStrategy, Strategy
from clustersim.workload.strategies.chain_of_thought import ChainOfThought
from clustersim.workload.tasks import Answer, Llm, Steps, Task, together


@register("strategy")
class Vote(Strategy):
    """Sample n answers and give the most frequent (Wang et al. 2022, arXiv:2203.11171).

    Wrong answers are spread over many values, so the right one wins with more than a share `threshold` of the votes.
    A right answer that has a single vote is as good as any other: chance decides between all. Samples that give no
    answer do not vote. With `early_stop` those that cannot change the outcome any more are cancelled.
    """

    needs_accuracy: ClassVar = True
    kind: Literal["vote"] = "vote"
    n: PositiveInt = 16
    """Samples."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.35
    """Share of the votes above which the right answer wins (the quality model's plurality threshold)."""
    early_stop: bool = True
    sample: AnyStrategy = ChainOfThought()
    """How each is made."""
    examples: ClassVar = ({"n": 5}, {"n": 4, "early_stop": False})

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        lot = task.fork().rng.random()
        group = together(self.sample.run(task, llm) for _ in range(self.n))
        right: list[Answer] = []
        others: list[Answer] = []
        votes = self.n
        for left in reversed(range(self.n)):
            answer = yield group
            if answer.given:
                (right if answer.correct else others).append(answer)
            else:
                votes -= 1
            needed = floor(self.threshold * votes + 1e-9) + 1  # against rounding alone
            sure = max(needed, min(2, votes))
            settled = len(right) >= sure or len(right) + left < needed
            if settled and self.early_stop and answer.correct is not None:
                break
        group.cancel()
        if not right and not others:
            return task.give_up(llm)
        won = len(right) >= sure or (len(right) >= needed and lot < 1 / votes)
        chosen = (right if won else others or right)[0]
        known = chosen.correct is not None
        return Answer(chosen.calls, won if known else None, llm.now, chosen.check_luck)
