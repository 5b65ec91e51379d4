"""Hedging: a second attempt where the first is slow."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from clustersim.kinds import register
from clustersim.units import Seconds
from clustersim.workload.strategies import AnyStrategy, Strategy
from clustersim.workload.strategies.chain_of_thought import ChainOfThought
from clustersim.workload.tasks import Answer, Group, Llm, Program, Steps, Task


@register("strategy")
class Hedge(Strategy):
    """Speculate: start a second attempt if the first is not done after a while, give what ends first, cancel the other.

    It buys tail latency with tokens (Dean and Barroso 2013, The tail at scale).
    """

    kind: Literal["hedge"] = "hedge"
    after_s: Seconds = 30.0
    """Time that the first attempt has for itself; 0 starts both at once."""
    attempt: AnyStrategy = ChainOfThought()
    """How each is made."""
    examples: ClassVar = ({"after": "1 s"}, {"after": "0 s"})

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        spare = task.fork()
        race: Group[Any] = Group([Program(self.attempt.run(task, llm)).start(), llm.sleep(self.after_s)])
        answer: Answer | None = yield race
        if answer is None:  # its time is up
            race.add(Program(self.attempt.run(spare, llm)).start())
            answer = yield race
        race.cancel()
        assert answer is not None
        return answer
