"""An agent: turns of thinking and tool use, whose context grows."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from clustersim.kinds import register
from clustersim.units import Seconds
from clustersim.workload.strategies import Strategy
from clustersim.workload.tasks import Answer, Call, Llm, Steps, Task


@register("strategy")
class Agent(Strategy):
    """Think, call a tool, read what it returned, and so on; then answer.

    The number of turns is geometric with the given mean, and one more for each tool call that fails, of which the
    model is told in as many tokens; it is cut at `max_turns`. The task's thinking is spread evenly over the mean
    number. A tool call takes an exponential time. Between turns the KV waits in the cache, and is evicted if others
    need the room: then it is computed anew. An agent cut short, by its turns or by the length of its context, is wrong.
    """

    kind: Literal["agent"] = "agent"
    mean_turns: Annotated[float, Field(ge=1)] = 8.0
    max_turns: PositiveInt = 50
    call_tokens: PositiveInt = 100
    """Output tokens of a tool call, beyond thinking."""
    tool_latency_s: Seconds = 2.0
    """Mean time that a tool takes."""
    tool_failure: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of tool calls that fail and cost another turn."""
    result_tokens: NonNegativeInt = 1000
    """Tokens that a tool returns into the context."""
    examples: ClassVar = ({"mean_turns": 3, "max_turns": 6, "tool_latency": "0.2 s"}, {"mean_turns": 1})

    def run(self, task: Task, llm: Llm) -> Steps[Answer]:
        """See the class."""
        sample, rng = task.sample(), task.fork().rng
        share = round(sample.thinking / self.mean_turns)
        context, calls, failed = task.prompt, list[Call](), False
        for _ in range(self.max_turns):
            last = not failed and rng.random() < 1 / self.mean_turns
            output = sample.answer if last else self.call_tokens
            call = yield llm.generate(context, share, output, keep=not last)
            calls.append(call)
            if last or not call.ok:
                return task.answer(calls, sample)
            if self.tool_latency_s:
                yield llm.sleep(rng.expovariate(1 / self.tool_latency_s))
            failed = rng.random() < self.tool_failure
            context = call.after.plus(self.result_tokens)
        cut = Answer(tuple(calls), task.wrong(calls[-1]), llm.now, sample.check_luck)
        cut.given = False
        return cut
