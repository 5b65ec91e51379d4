"""Run a plan on this host: a child process a repetition, a limit a case, a canary a block, a line a result.

The parent imports no torch and holds no device: a case that hangs is killed with its process, written to
errors.jsonl and passed over, and after its second failure given up. Ctrl-C or kill -9 lose the case at hand.
"""

from __future__ import annotations

import hashlib
import math
import platform
import statistics as stdlib_statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from calibrate import pace
from calibrate.case import Case, Work
from calibrate.child import Child, WorkerError
from calibrate.plan import ROUGH, Plan, Planned, Rates, canaries, make_plan, rates_from
from calibrate.progress import Eta, Progress
from calibrate.store import MOST_FAILURES, Store, samples_from
from calibrate.timing import Rule

#: Cases between two looks at the canary, and the change of its median that speaks against those between.
BLOCK, MOST_DRIFT = 8, 0.05
#: A case may take so many times what was predicted, and never less or more than so many seconds.
TIMEOUT_FACTOR, LEAST_TIMEOUT_S, MOST_TIMEOUT_S = 10.0, 30.0, 3600.0
#: Importing torch on a busy machine was seen to take half a minute.
START_TIMEOUT_S = 180.0
#: Share of a budget kept for fitting and writing.
END_FRAC = 0.15
_CANARY_RULE = Rule(max_s=0.15, warm_up_s=0.05, half_width_frac=0.01)


@dataclass(frozen=True)
class Host:
    """What measures: how the device is opened in a child process, and how long one may hang."""

    provider: str = "calibrate.worker:local"
    options: Mapping[str, Any] = field(default_factory=dict)
    least_timeout_s: float = LEAST_TIMEOUT_S
    timeout_factor: float = TIMEOUT_FACTOR

    def open(self, folder: Path) -> Child:
        """Start a worker whose words go to worker.log in a folder."""
        return Child(self.provider, self.options, folder / "worker.log")

    def timeout_s(self, predicted_s: float) -> float:
        """Return the limit of something predicted to take so long."""
        return min(max(self.least_timeout_s, self.timeout_factor * predicted_s), MOST_TIMEOUT_S)


@dataclass
class Outcome:
    """What became of a run beside what the store holds."""

    plan: Plan
    gaps: dict[str, str] = field(default_factory=dict)
    """What was not measured -> why."""
    num_planned: int = 0
    """Cases of the plan, those over the budget included."""


def node_name() -> str:
    """Return this host's name, hashed: rows of one host can be told together, the host cannot be told."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


def ask_plan(
    child: Child, name: Any, benches: Sequence[str], seed: int = 0
) -> tuple[Plan, dict[str, Any], dict[str, str]]:
    """Return the plan of a worker's device, what the device says of itself, and what it cannot measure."""
    hello = child.ask({"ask": "hello"}, START_TIMEOUT_S)
    said = child.ask({"ask": "cases", "plan": name, "benches": list(benches)}, START_TIMEOUT_S)
    cases = [Planned(Case(**c["case"]), Work(**c["work"]), c["family"]) for c in said["cases"]]
    gaps = {
        bench: "; ".join(why.removeprefix(f"{bench}: ") for why in whys)
        for bench, whys in said["gaps"].items()
        if whys
    }
    return make_plan(name, str(hello["name"]), cases, seed=seed), hello, gaps


@dataclass
class Runner:
    """One run of one plan into one store."""

    plan: Plan
    store: Store
    host: Host
    kind: str = "cpu"
    max_time_s: float | None = None
    allow_contended: bool = False
    progress: Progress = field(default_factory=Eta)
    child: Child | None = None
    """A worker to begin with, e.g. the one that told the plan; it is closed at the end."""
    started: float = field(default_factory=time.monotonic)
    """Since when the budget runs."""
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.node = node_name()
        self.rates: Rates = ROUGH[self.kind]
        self.later_s = 0.0
        self.readings: dict[str, float] = {}

    def run(self) -> Outcome:
        """Measure what is not yet in the store; returns what is missing at the end."""
        outcome = Outcome(self.plan, num_planned=len(self.plan.cases))
        done = self.store.done(allow_contended=self.allow_contended)
        try:
            self._calibrate_rates()
            kept = self.plan.within(self.max_time_s, self.rates, done)
            outcome.gaps |= _over_budget(self.plan.cases, kept)
            for repetition in range(self.plan.level.repetitions):
                queue = self.plan.order(repetition, kept, done)
                later = (self.plan.level.repetitions - repetition - 1) * len(kept)
                mean_s = sum(map(self._predicted_s, kept)) / max(len(kept), 1)
                self.later_s = later * mean_s
                self.progress.start(sum(map(self._predicted_s, queue)) + self.later_s)
                outcome.gaps |= self._repetition(repetition, queue)
                self._close()
        finally:
            if self.child is not None:
                self.child.kill()
        measured = {samples.case.key for samples in self.store.samples()}
        outcome.gaps = {key: why for key, why in outcome.gaps.items() if key not in measured}
        return outcome

    def _predicted_s(self, each: Planned) -> float:
        return self.plan.predicted_s(each, self.rates)

    def _calibrate_rates(self) -> None:
        """Time the canaries once, so that durations rest on this machine."""
        found = [(each, self._canary_s(each)) for each in canaries(self.plan.cases, self.rates)]
        self.rates = rates_from([(each, took) for each, took in found if took], self.rates)

    def _repetition(self, repetition: int, cases: Sequence[Planned]) -> dict[str, str]:
        gaps: dict[str, str] = {}
        queue = deque((each, 0) for each in cases)
        watched = canaries(self.plan.cases, self.rates)
        before = self._canary(watched)
        number = 0
        while queue:
            block = f"{repetition}.{number}.{time.time_ns():x}"
            number += 1
            measured: list[tuple[Planned, int]] = []
            while queue and len(measured) < BLOCK:
                each, attempt = queue.popleft()
                if self._late(each):
                    gaps[each.case.key] = "out of time"
                elif self.store.failures()[each.case.key] >= MOST_FAILURES:
                    gaps[each.case.key] = "given up after two failures"
                elif self._measure(each, repetition, attempt, block):
                    measured.append((each, attempt))
                else:
                    queue.append((each, attempt))
            after = self._canary(watched) if measured else before
            drift = _drift(before, after)
            again = [
                (each, attempt + 1)
                for each, attempt in measured
                if attempt < self.plan.level.most_requeues and self._is_doubtful(each, drift)
            ]
            if measured:
                self.store.add_verdict(block, drift, invalid=drift > MOST_DRIFT)
            if again:
                queue.extend(entry for entry in again if self._has_room(queue, entry[0]))
                self.progress.start(sum(self._predicted_s(each) for each, _ in queue) + self.later_s)
            before = after
        return gaps

    def _is_doubtful(self, each: Planned, drift: float) -> bool:
        """Return whether the core was slowed meanwhile: by its pace where that was read, else by the canaries."""
        readings = self.readings
        if each.case.key in readings:
            return pace.is_slowed(readings[each.case.key], pace.reference_s(readings.values()))
        return drift > MOST_DRIFT

    def _late(self, each: Planned) -> bool:
        return self._predicted_s(each) > self._left_s()

    def _has_room(self, queue: Iterable[tuple[Planned, int]], each: Planned) -> bool:
        """Return whether to measure a case again leaves time for all that was not measured once."""
        ahead = sum(self._predicted_s(other) for other, _ in queue) + self.later_s
        return ahead + self._predicted_s(each) < self._left_s()

    def _left_s(self) -> float:
        """Return what is left of the budget for measuring."""
        if self.max_time_s is None:
            return math.inf
        return self.max_time_s * (1 - END_FRAC) - (self.now() - self.started)

    def _measure(self, each: Planned, repetition: int, attempt: int, block: str) -> bool:
        predicted = self._predicted_s(each)
        shape = " ".join(f"{name}={size}" for name, size in each.case.shape.items())
        self.progress.doing(f"{each.case.op} {each.case.dtype} {shape}", predicted)
        try:
            reply = self._ask(each.case, self.plan.level.rule, repetition, self.host.timeout_s(predicted))
            samples = samples_from(reply["samples"])
            self.store.add(samples, attempt=attempt, block=block)
            if (reading := pace.reading_s(samples.notes)) is not None:
                self.readings[each.case.key] = reading
        except WorkerError as error:
            self.store.add_error(each.case, repetition, error.what, error.text)
            return False
        finally:
            self.progress.did()
        return True

    def _canary(self, watched: Sequence[Planned]) -> list[float | None]:
        return [self._canary_s(each) for each in watched]

    def _canary_s(self, each: Planned) -> float | None:
        """Return the canary's median in seconds; None where it fails, which is no reason to stop."""
        try:
            reply = self._ask(each.case, _CANARY_RULE, 0, self.host.timeout_s(self._predicted_s(each)))
        except WorkerError:
            return None
        return float(stdlib_statistics.median(reply["samples"]["seconds"]))

    def _ask(self, case: Case, rule: Rule, repetition: int, timeout_s: float) -> dict[str, Any]:
        if self.child is None or not self.child.alive:
            self.child = self.host.open(self.store.folder)
            self.child.ask({"ask": "hello"}, START_TIMEOUT_S)
        request = {"ask": "measure", "case": case.as_dict(), "rule": asdict(rule)}
        return self.child.ask({**request, "repetition": repetition, "node": self.node}, timeout_s)

    def _close(self) -> None:
        if self.child is not None:
            self.child.close()
            self.child = None


def _over_budget(planned: Sequence[Planned], kept: Sequence[Planned]) -> dict[str, str]:
    chosen = {each.case.key for each in kept}
    return {each.case.key: "over the time budget" for each in planned if each.case.key not in chosen}


def _drift(before: Sequence[float | None], after: Sequence[float | None]) -> float:
    """Return the largest change of a canary, as a share; 0 where none could be timed."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a and b]
    return max((abs(b / a - 1) for a, b in pairs), default=0.0)
