"""Check claims: their values step by step, the answer, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clustersim.errors import InputError, Problem
from clustersim.study.claims.claim import Claim, Input, Simulate, Step, Training
from clustersim.study.claims.formula import Formula, amount, quantity, show
from clustersim.study.claims.functions import functions_of
from clustersim.study.claims.inputs import Known, resolve
from clustersim.study.claims.load import Loaded
from clustersim.study.claims.measured import Done, Measured, measure
from clustersim.study.claims.verdict import Verdict, judge

if TYPE_CHECKING:
    from pint import Quantity


@dataclass(frozen=True)
class Line:
    """One step with its numbers."""

    step: Step
    value: Quantity[Any]
    with_numbers: str
    """The formula with numbers in place of names."""

    @property
    def shown(self) -> str:
        """The value in the step's unit."""
        return show(self.value, self.step.unit)

    @property
    def by_hand(self) -> str:
        """The value that was calculated apart, in the step's unit; nothing where there is none."""
        return "" if self.step.by_hand is None else show(quantity(self.step.by_hand), self.step.unit)

    @property
    def as_by_hand(self) -> bool:
        """Whether the value is what the calculation by hand gives, within the step's tolerance."""
        if self.step.by_hand is None:
            return True
        expected = amount(quantity(self.step.by_hand), self.step.unit)
        return abs(amount(self.value, self.step.unit) - expected) <= self.step.within * abs(expected)


@dataclass(frozen=True)
class Finding:
    """A claim, checked."""

    claim: Claim
    inputs: dict[str, Known]
    lines: list[Line]
    verdict: Verdict
    otherwise: list[tuple[str, Line]] = field(default_factory=list)
    """The answer under each assumption that the claim does not state."""

    def __getitem__(self, name: str) -> Quantity[Any]:
        """Return the value of a step."""
        return self.line(name).value

    def line(self, name: str) -> Line:
        """Return a step with its numbers."""
        return next(line for line in self.lines if line.step.name == name)

    @property
    def answer(self) -> Line:
        """The step that is held against what was said."""
        return self.line(self.claim.answer)

    @property
    def off_hand(self) -> list[Line]:
        """The steps that differ from their calculation by hand."""
        return [line for line in self.lines if not line.as_by_hand]


def check(claims: Sequence[Loaded], done: Done | None = None, processes: int | None = None) -> list[Finding]:
    """Return a finding for each claim; `done(k, of)` after every run that they need.

    Raises InputError, with the claim and the step, for figures, metrics or units that do not fit.
    """
    measured = measure(claims, done, processes)
    return [find(each.claim, measured[each.claim.id]) for each in claims]


def find(claim: Claim, measured: Mapping[str, Any]) -> Finding:
    """Return the finding of one claim, given what its runs gave."""
    inputs = {name: _resolved(claim, name, each) for name, each in claim.check.inputs.items()}
    lines = _lines(claim, inputs, measured)
    by_name = {line.step.name: line for line in lines}
    otherwise = []
    for each in claim.under:
        others = inputs | {name: _resolved(claim, name, given) for name, given in each.inputs.items()}
        changed = {line.step.name: line for line in _lines(claim, others, measured)}
        otherwise.append((each.assuming, changed[each.answer or claim.answer]))
    answers = [(text, line.value) for text, line in otherwise]
    try:
        verdict = judge(claim.said, by_name[claim.answer].value, claim.assumes, answers)
    except InputError as error:
        raise InputError([Problem(f"claim {claim.id}: said", str(error))]) from None
    return Finding(claim, inputs, lines, verdict, otherwise)


def _resolved(claim: Claim, name: str, given: Input) -> Known:
    try:
        return resolve(given)
    except InputError as error:
        raise InputError([Problem(f"claim {claim.id}: check.inputs.{name}", str(error))]) from None


def _lines(claim: Claim, inputs: Mapping[str, Known], measured: Mapping[str, Any]) -> list[Line]:
    values = {name: known.quantity for name, known in inputs.items()} | dict(measured)
    texts = {name: known.shown for name, known in inputs.items()}
    texts |= {name: show(value, _unit_of(claim, name)) for name, value in measured.items()}
    functions = functions_of(claim.check.kind)
    lines = []
    for step in claim.check.steps:
        try:
            formula = Formula(step.formula)
            value = formula.value(values, functions)
            line = Line(step, value, formula.with_numbers(texts, functions))
            texts[step.name], values[step.name] = line.shown, value
        except InputError as error:
            raise InputError([Problem(f'claim {claim.id}: step "{step.name}"', str(error))]) from None
        lines.append(line)
    return lines


def _unit_of(claim: Claim, name: str) -> str:
    """Return the unit in which a measured value is shown."""
    check = claim.check
    runs = check.runs if isinstance(check, Simulate) else check.jobs if isinstance(check, Training) else {}
    return next((run.metrics[name].unit for run in runs.values() if name in run.metrics), "1")


__all__ = ["Finding", "Line", "Measured", "check", "find"]
