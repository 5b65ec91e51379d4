"""Beam search over steps of reasoning, guided by a process reward model."""

from __future__ import annotations

from math import isnan
from typing import ClassVar, Literal

from pydantic import PositiveInt

from clustersim.kinds import register
from clustersim.workload.strategies import Strategy
from clustersim.workload.tasks import Answer, Call, Context, Llm, Steps, Task, together
from clustersim.workload.verifier import Verifier


@register("strategy")
class TreeSearch(Strategy):
    """Think in `depth` steps; after each, keep the `width` best of the paths and go on from each in `branching` ways.

    A path is right while each of its steps is; steps succeed alike and independently, so that a search of width and
    branching 1 is right as often as a plain chain (assumed: no measurement found). After each step the verifier
    accepts or rejects every path; accepted ones are kept first, and chance decides among equals. Paths that go on
    share the KV of what they have in common; those pruned are freed.
    """

    needs_accuracy: ClassVar = True
    kind: Literal["tree_search"] = "tree_search"
    depth: PositiveInt = 4
    """Steps of thinking; the answer belongs to the last."""
    width: PositiveInt = 4
    """Paths kept after each step."""
    branching: PositiveInt = 4
    """Ways in which each goes on."""
    verifier: Verifier = Verifier(true_accept=0.9, false_accept=0.2)
    """The process reward model."""
    examples: ClassVar = ({"depth": 2, "width": 2, "branching": 2}, {"depth": 1, "width": 1, "branching": 1})

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        later = task.fork()
        check_luck = later.rng.random()
        paths = [_Path(task.prompt, (), True)]
        for step in range(self.depth):
            ways = self.branching if step else self.width * self.branching
            chance = later if step else task
            group = together(self._grow(chance, llm, path, step) for path in paths for _ in range(ways))
            grown: list[_Path] = []
            while group.pending or group.ready:
                path = yield group
                if path is not None:
                    grown.append(path)
            for old in paths:
                if old.calls:
                    llm.drop(old.context)
            grown.sort(key=lambda path: (not path.accepted, path.order))
            paths = grown[: self.width]
            for path in grown[self.width :]:
                llm.drop(path.context)
            if not paths:
                return task.give_up(llm)
        best = paths[0]
        known = llm.success(task.difficulty, 1.0)
        correct = None if isnan(known) else best.right
        return Answer(best.calls, correct, llm.now, check_luck)

    def _grow(self, task: Task, llm: Llm, path: _Path, step: int) -> Steps[_Path | None]:
        """Take one more step on a path; None if it has no room."""
        sample = task.sample()
        thinking = round(sample.thinking / self.depth)
        last = step == self.depth - 1
        chance = llm.success(task.difficulty, 1.0) ** (1 / self.depth)
        right = path.right and sample.luck < chance
        order = task.rng.random()
        # A step that is not the last makes a token at least.
        share = (thinking, sample.answer) if last else (max(0, thinking - 1), 1)
        call: Call = yield llm.generate(path.context, *share, keep=not last)
        if not call.ok:
            return None
        grown = _Path(call.after, (*path.calls, call), right, order)
        answer_so_far = Answer(grown.calls, right, llm.now, sample.check_luck)
        grown.accepted = yield from self.verifier.check(task, answer_so_far, llm)
        return grown


class _Path:
    """Steps so far: whether all are right, and what the verifier said of the last."""

    __slots__ = ("accepted", "calls", "context", "order", "right")

    def __init__(self, context: Context, calls: tuple[Call, ...], right: bool, order: float = 0.0) -> None:
        self.context = context
        self.calls = calls
        self.right = right
        self.order = order
        self.accepted = True
