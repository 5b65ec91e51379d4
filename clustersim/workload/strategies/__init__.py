"""Strategies: how a reasoning service spends compute on one query. One file a kind.

A strategy is a program over a client of a deployment: it sends requests, waits for them, forks, checks, cancels, and
returns an answer. Strategies are made of strategies: best_of_n of agents, a cascade of a vote and a tree search.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from clustersim.kinds import OneOf, Part
from clustersim.workload.tasks import Answer, Llm, Steps, Task


class Strategy(Part):
    """Base of the strategies: immutable settings of a program."""

    examples: ClassVar[tuple[dict[str, Any], ...]] = ()

    @abstractmethod
    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """Answer a task with requests to `llm` and the deployments it knows; see workload.tasks.program."""

    needs_accuracy: ClassVar[bool] = False
    """Whether what it does depends on which answers are right, so that a benchmark must say how many are."""

    def parts(self) -> Iterator[Any]:
        """Yield the strategies and verifiers that it is made of."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if hasattr(value, "deployments"):
                yield value

    def deployments(self) -> Iterator[str]:
        """Yield the names of the deployments that the program calls beside its workload's own."""
        for part in self.parts():
            yield from part.deployments()

    def answering(self) -> Iterator[str]:
        """Yield those of them whose answers may be right or wrong: not verifiers."""
        for part in self.parts():
            if isinstance(part, Strategy):
                yield from part.answering()

    @property
    def decides_by_accuracy(self) -> bool:
        """Whether it, or any part of it, needs to know which answers are right."""
        return self.needs_accuracy or any(
            getattr(part, "decides_by_accuracy", False) for part in self.parts()
        )


AnyStrategy = Annotated[Strategy, OneOf("strategy")]
