"""A cascade: cheap first."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.workload.strategies.two_tiers import TwoTiers
from clustersim.workload.tasks import Answer, Llm, Steps, Task
from clustersim.workload.verifier import Verifier


@register("strategy")
class Cascade(TwoTiers):
    """Answer cheaply first; where the verifier rejects that, answer again with the strong strategy."""

    needs_accuracy: ClassVar = True
    kind: Literal["cascade"] = "cascade"
    verifier: Verifier = Verifier(true_accept=0.9, false_accept=0.2)
    examples: ClassVar = (
        {"cheap": "direct", "strong": {"kind": "vote", "n": 3}},
        {"cheap": {"kind": "chain_of_thought", "scale": 0.25}, "verifier": {"false_accept": 0.1}},
    )

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        later = task.fork()
        answer = yield from self.cheap.run(task, llm.on(self.cheap_to))
        good = yield from self.verifier.check(task, answer, llm)
        if good:
            answer.first_s = llm.now
            return answer
        again: Answer = yield from self.strong.run(later, llm.on(self.strong_to))
        return again
