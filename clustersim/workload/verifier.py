"""A verifier: what tells right answers from wrong ones, with its errors, its time and its own deployment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from clustersim.kinds import Value
from clustersim.records import CHECK
from clustersim.units import Seconds
from clustersim.workload.tasks import Answer, Llm, Steps, Task


class Verifier(Value):
    """Accepts right answers with chance `true_accept` and wrong ones with chance `false_accept`.

    With `to` it is a model on a deployment of its own, whose requests queue there: a reward model that reads and says
    one token, or a generative one that thinks. Without, it is a program (unit tests, a proof checker) of fixed latency.
    """

    true_accept: Annotated[float, Field(ge=0, le=1)] = 1.0
    """TPR: share of right answers accepted."""
    false_accept: Annotated[float, Field(ge=0, le=1)] = 0.0
    """FPR: share of wrong answers accepted. A brute search works only while this is far below the chance of success."""
    to: str | None = None
    """Name of the verifier's deployment; none for a program."""
    reads: Literal["answer", "output"] = "output"
    """Whether it reads the answer alone or the thinking too; the prompt always."""
    thinking_tokens: NonNegativeInt = 0
    """What a generative verifier thinks."""
    verdict_tokens: PositiveInt = 1
    """Tokens of its verdict."""
    latency_s: Seconds = 0.0
    """Time of its own, beyond its requests."""

    def deployments(self) -> Iterator[str]:
        """Yield the name of its deployment, if it has one."""
        if self.to is not None:
            yield self.to

    def check(self, task: Task, answer: Answer, llm: Llm) -> Steps[bool]:
        """Say whether it accepts an answer, after the time that takes."""
        if not answer.given:
            return False
        if self.to is not None:
            tokens = task.answer_tokens if self.reads == "answer" else answer.output_tokens
            context = task.prompt.plus(tokens)
            call = yield llm.on(self.to).generate(
                context, self.thinking_tokens, self.verdict_tokens, role=CHECK
            )
            if not call.ok:
                return False
        if self.latency_s:
            yield llm.sleep(self.latency_s)
        return bool(answer.check_luck < (self.true_accept if answer.correct else self.false_accept))
