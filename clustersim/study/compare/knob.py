"""Equal quality: the smallest setting of a knob at which a scenario surely reaches a target."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from clustersim.errors import InputError, unknown
from clustersim.metrics import confidence_interval
from clustersim.scenario.schema import Scenario
from clustersim.study import assertions
from clustersim.study.compare.settings import paths

#: Numbers by metric, one mapping a replication.
Runs = Sequence[Mapping[str, float | None]]
_FORM = re.compile(r"^\s*([^=\s]+)\s*=\s*(\d+)\s*\.\.\s*(\d+)\s*$")
ACCURACY = "accuracy"


@dataclass(frozen=True)
class Knob:
    """A whole-number setting, and between which values to look; more of it never lowers quality."""

    path: str
    low: int
    high: int


@dataclass(frozen=True)
class Target:
    """A metric and the value that it must reach: at least, or at most."""

    metric: str
    at_least: bool
    value: float

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.at_least else '<='} {self.value:g}"

    def reached(self, values: Sequence[float | None]) -> bool:
        """Whether the 95 % interval of the mean lies on the right side; never where a replication has no value."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return False
        low, high = confidence_interval(known)
        return low >= self.value if self.at_least else high <= self.value


@dataclass(frozen=True)
class Trial:
    """One setting that was tried: the mean and interval of the target's metric; None where it has no value."""

    setting: int | None
    mean: float | None
    low: float | None
    high: float | None
    reached: bool


@dataclass(frozen=True)
class Search:
    """How a scenario came to its quality."""

    knob: Knob | None
    """None for a scenario without any of the knobs, which is taken as it is."""
    found: int | None
    """The smallest setting that reaches the target; None where none does, or there is no knob."""
    reached: bool
    trials: tuple[Trial, ...]
    """In the order in which they were made."""


def parse_target(text: str | float) -> Target:
    """Return a target: "0.8" is of the accuracy of tasks; else "goodput_frac>=0.99", "p99_ttft_ms<=500"."""
    try:
        return Target(ACCURACY, True, float(text))
    except ValueError:
        pass
    try:
        found = assertions.parse(str(text))
    except InputError:
        found = None
    if found is None or found.compare not in (">=", "<=") or isinstance(found.value, str):
        raise InputError(f"--target {text}: write it like 0.8 (of {ACCURACY}) or 'goodput_frac>=0.99'")
    return Target(found.metric, found.compare == ">=", found.value)


def parse_knob(text: str) -> Knob:
    """Return a knob from "PATH=LOW..HIGH", e.g. "deployments.0.replicas=1..16"."""
    found = _FORM.match(text)
    if found is None or int(found[2]) >= int(found[3]):
        raise InputError(
            f"--knob {text}: write it like deployments.0.replicas=1..16, with the lower value first"
        )
    path = re.sub(r"^workload\.", "workloads.0.", found[1])
    return Knob(path, int(found[2]), int(found[3]))


def knobs_of(scenarios: Sequence[Scenario], knobs: Sequence[Knob]) -> list[Knob | None]:
    """Return the one knob that each scenario has, None where it has none.

    Raises InputError for a path that no scenario has, with the nearest, and for a scenario that has two.
    """
    known = [paths(each) for each in scenarios]
    for knob in knobs:
        if not any(knob.path in each for each in known):
            every = sorted(set().union(*known))
            near = difflib.get_close_matches(knob.path, every, n=1, cutoff=0.4)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            raise InputError(f'--knob: no scenario has the setting "{knob.path}".{hint}')
    found: list[Knob | None] = []
    for number, each in enumerate(known):
        mine = [knob for knob in knobs if knob.path in each]
        if len(mine) > 1:
            two = f"{mine[0].path} and {mine[1].path}"
            raise InputError(f"--knob: scenario {number + 1} has both {two}; turn one at a time")
        found.append(mine[0] if mine else None)
    return found


def search(knob: Knob | None, target: Target, run: Callable[[int | None], Runs]) -> Search:
    """Return the smallest setting that reaches the target, by bisection; `run` gives the replications of a setting.

    The highest is tried first: where it does not reach the target, nothing does. A setting whose interval holds the
    target counts as short of it. Raises InputError for a metric that the runs do not have.
    """
    trials: list[Trial] = []

    def reached(setting: int | None) -> bool:
        values = [_value(each, target.metric) for each in run(setting)]
        known = [value for value in values if value is not None]
        whole = bool(known) and len(known) == len(values)
        low, high = confidence_interval(known) if whole else (None, None)
        mean = sum(known) / len(known) if whole else None
        trials.append(Trial(setting, mean, low, high, target.reached(values)))
        return trials[-1].reached

    if knob is None:
        return Search(None, None, reached(None), tuple(trials))
    if not reached(knob.high):
        return Search(knob, None, False, tuple(trials))
    low, high = knob.low - 1, knob.high  # short of it, and not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return Search(knob, high, True, tuple(trials))


def _value(run: Mapping[str, float | None], metric: str) -> float | None:
    if metric not in run:
        hint = f" {ACCURACY} is there where a workload has tasks." if metric == ACCURACY else ""
        raise InputError(f"--target: {unknown('metric', metric, run)}{hint}")
    return run[metric]
