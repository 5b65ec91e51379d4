"""Whole steps, measured in random order again and again, beside what the cost model says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from clustersim.models.step import StepShape

Kind = Literal["decode", "prefill"]


@dataclass(frozen=True)
class Step:
    """One step: `batch` sequences that decode over `context` tokens each, or `batch` tokens after `context` cached."""

    kind: Kind
    batch: int
    context: int

    @property
    def shape(self) -> StepShape:
        """Return the step to be asked of the simulator."""
        if self.kind == "decode":
            return StepShape.decode(self.batch, self.context)
        return StepShape.prefill(self.batch, self.context)

    def __str__(self) -> str:
        if self.kind == "decode":
            return f"decode, {self.batch} x {self.context} tokens"
        return f"prefill, {self.batch} tokens" + (f" after {self.context}" if self.context else "")


def _grid(batches: Sequence[int], contexts: Sequence[int]) -> tuple[Step, ...]:
    return tuple(Step("decode", batch, context) for batch in batches for context in contexts)


def _prompts(*sizes: tuple[int, int]) -> tuple[Step, ...]:
    return tuple(Step("prefill", tokens, past) for tokens, past in sizes)


#: Steps of a plan, on the benchmarks' grids and off them.
STEPS: Mapping[str, tuple[Step, ...]] = {
    "quick": (*_grid((1, 3, 8), (128, 700)), *_prompts((64, 0), (100, 0))),
    "default": (
        *_grid((1, 2, 3, 4, 8, 12, 16, 24, 32), (128, 300, 1024, 2048)),
        *_prompts((32, 0), (64, 0), (100, 0), (200, 0), (400, 0), (512, 0), (128, 512), (256, 700)),
    ),
}  # fmt: skip


class Stepper(Protocol):
    """Whatever carries out steps and can say how long one took."""

    def time(self, step: Step) -> tuple[float, Mapping[str, float]]:
        """Carry out a step; return its seconds, and those of each operator where they are known."""


@dataclass(frozen=True)
class Measured:
    """A step's samples in seconds, in the order taken, and the median seconds of its operators."""

    step: Step
    seconds: tuple[float, ...]
    operators: Mapping[str, float]

    @property
    def median_s(self) -> float:
        """Return the median."""
        return float(np.median(self.seconds))

    @property
    def spread_frac(self) -> float:
        """Return the samples' median distance from their median, over it."""
        return float(np.median(np.abs(np.asarray(self.seconds) / self.median_s - 1)))


def measure(
    steps: Sequence[Step],
    stepper: Stepper,
    repetitions: int,
    seed: int,
    done: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Time every step `repetitions` times, each time all of them in a new random order; a first round is not counted.

    A drift of the machine then falls on all steps alike, and each is timed after another than itself, as in an
    engine whose batches change.
    """
    draw = np.random.default_rng(seed)
    seconds: dict[Step, list[float]] = {step: [] for step in steps}
    parts: dict[Step, list[Mapping[str, float]]] = {step: [] for step in steps}
    for number in range(repetitions + 1):
        for index in draw.permutation(len(steps)):
            step = steps[index]
            took, operators = stepper.time(step)
            if number:
                seconds[step].append(took)
                parts[step].append(operators)
            done()
    return [
        Measured(
            step, tuple(seconds[step]),
            {name: float(np.median([each.get(name, 0.0) for each in parts[step]])) for name in parts[step][0]},
        )
        for step in steps
    ]  # fmt: skip
