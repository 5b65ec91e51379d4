"""Many samples, and something that tells good from bad."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from clustersim.kinds import register
from clustersim.workload.strategies import AnyStrategy, Strategy
from clustersim.workload.strategies.chain_of_thought import ChainOfThought
from clustersim.workload.tasks import Answer, Llm, Steps, Task, together
from clustersim.workload.verifier import Verifier


@register("strategy")
class BestOfN(Strategy):
    """Sample n answers side by side, check each as it comes, give the first that is accepted and cancel the rest.

    If the verifier accepts none, the program gives up. Samples of one prompt share its KV.
    """

    needs_accuracy: ClassVar = True
    kind: Literal["best_of_n"] = "best_of_n"
    n: PositiveInt = 8
    """Samples."""
    verifier: Verifier = Verifier()
    sample: AnyStrategy = ChainOfThought()
    """How each is made."""
    wait_for_all: bool = False
    """Let all samples end before one is chosen, at random among those accepted."""
    examples: ClassVar = (
        {"n": 4},
        {"n": 3, "verifier": {"true_accept": 0.9, "false_accept": 0.1}, "wait_for_all": True},
    )

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        answer: Answer
        choice = task.fork().rng.random() if self.wait_for_all else 0.0
        group = together(self._checked(task, llm) for _ in range(self.n))
        accepted: list[Answer] = []
        for _ in range(self.n):
            answer, good = yield group
            if good and not self.wait_for_all:
                group.cancel()
                return answer
            if good:
                accepted.append(answer)
        if not accepted:
            return task.give_up(llm)
        chosen = accepted[int(choice * len(accepted))]
        chosen.first_s = llm.now
        return chosen

    def _checked(self, task: Task, llm: Llm) -> Steps[tuple[Answer, bool]]:
        answer = yield from self.sample.run(task, llm)
        good = yield from self.verifier.check(task, answer, llm)
        answer.first_s = llm.now
        return answer, good
