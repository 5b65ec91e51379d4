"""Whole steps, measured in random order again and again, beside what the cost model says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from calibrate.pace import is_slowed, reference_s
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

    def pace_s(self) -> float:
        """Return the seconds that the core takes for the same work each time, now."""

    def time(self, step: Step) -> tuple[float, Mapping[str, float]]:
        """Carry out a step; return its seconds, and those of each operator where they are known."""


@dataclass(frozen=True)
class Measured:
    """A step's samples in seconds, in the order taken, and the median seconds of its operators."""

    step: Step
    seconds: tuple[float, ...]
    operators: Mapping[str, float]
    slowed: bool = False
    """Whether all of them were taken on a slowed core (see calibrate.pace)."""

    @property
    def median_s(self) -> float:
        """Return the median."""
        return float(np.median(self.seconds))

    @property
    def spread_frac(self) -> float:
        """Return the samples' median distance from their median, over it."""
        return float(np.median(np.abs(np.asarray(self.seconds) / self.median_s - 1)))


class Sample(NamedTuple):
    """One step taken: its seconds, those of its operators, and the slower of the core's paces before and after."""

    seconds: float
    operators: Mapping[str, float]
    pace_s: float


def measure(
    steps: Sequence[Step],
    stepper: Stepper,
    repetitions: int,
    seed: int,
    pace_s: float | None = None,
    done: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Time every step `repetitions` times, each time all of them in a new random order; a first round is not counted.

    A drift of the machine then falls on all steps alike, and each is timed after another than itself, as in an
    engine whose batches change. Samples of a slowed core do not count: steps that have less than half of their
    repetitions without are timed anew, up to as often again. The reference is `pace_s`, where the core reached it, else
    the core's fastest here.
    """
    draw = np.random.default_rng(seed)
    taken: dict[Step, list[Sample]] = {step: [] for step in steps}
    paces, wanted = list[float](), list(steps)
    for number in range(2 * repetitions + 1):
        before = stepper.pace_s()
        for index in draw.permutation(len(wanted)):
            took, operators = stepper.time(wanted[index])
            after = stepper.pace_s()
            if number:
                taken[wanted[index]].append(Sample(took, operators, max(before, after)))
                paces.append(after)
            before = after
            done()
        if number >= repetitions:
            reference = _reference_s(paces, pace_s)
            wanted = [step for step in steps if 2 * len(_free(taken[step], reference)) < repetitions]
    reference = _reference_s(paces, pace_s)
    return [_measured(step, taken[step], _free(taken[step], reference)) for step in steps]


def _reference_s(paces: Sequence[float], known_s: float | None) -> float | None:
    fastest = reference_s(paces)
    return known_s if known_s and fastest and not is_slowed(fastest, known_s) else fastest


def _free(samples: Sequence[Sample], reference: float | None) -> list[Sample]:
    return [each for each in samples if not is_slowed(each.pace_s, reference)]


def _measured(step: Step, every: Sequence[Sample], free: Sequence[Sample]) -> Measured:
    kept = free or every
    names = dict.fromkeys(name for each in kept for name in each.operators)
    return Measured(
        step, tuple(each.seconds for each in kept),
        {name: float(np.median([each.operators.get(name, 0.0) for each in kept])) for name in names},
        slowed=not free,
    )  # fmt: skip
