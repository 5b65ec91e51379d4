"""Tasks: reasoning queries, each a program of requests that fork, join and cancel."""

from clustersim.workload.tasks.program import Future, Group, Program, Steps, all_of, together
from clustersim.workload.tasks.task import Answer, Call, Context, Llm, Sample, Task

__all__ = [
    "Answer", "Call", "Context", "Future", "Group", "Llm", "Program",
    "Sample", "Steps", "Task", "all_of", "together",
]  # fmt: skip
