"""The schema of a claim: what was said, by whom, and how it is checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError, core_schema

from clustersim.errors import InputError, unknown
from clustersim.hardware.node import NodeRef
from clustersim.hardware.site import SiteRef
from clustersim.kinds import Value
from clustersim.models.hf_config import ModelRef
from clustersim.quality.ranged import Evidence
from clustersim.study.claims.formula import Formula, check_unit, quantity
from clustersim.training.layout import Recipe, TrainingLayout

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
#: A quantity as text with its unit, or a bare number.
Amount = float | str


class Input(Value):
    """A number that a check starts from: a figure of the library, or a value with its source."""

    library: str | None = None
    """SHELF/NAME/FIELD, e.g. accelerators/h100-sxm/tdp_w or models/deepseek-r1/kv_bytes_per_token."""
    value: Amount | None = None
    evidence: Evidence | Literal["claimed"] | None = None
    """How the value is known; `claimed`: the claim itself says it."""
    source: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.library is None) == (self.value is None):
            raise _refused('give either "library" (SHELF/NAME/FIELD) or "value"')
        if self.value is not None:
            if self.evidence is None or not self.source:
                raise _refused('a "value" needs "evidence" and "source"')
            _quantities(self.value)
        elif self.evidence or self.source:
            raise _refused("a figure of the library brings its own evidence and source; leave them out")
        return self


class Step(Value):
    """One line of the check: a formula over inputs, measured values and earlier steps."""

    name: Name
    formula: Text
    unit: str
    """In which it is shown: a unit, or "1", "x" (a factor) and "%" for numbers without one."""
    by_hand: Amount | None = None
    """What a calculation apart from this project gives."""
    within: Annotated[float, Field(gt=0)] = 0.01
    """How far, as a share of it, the value may be from that."""
    why: str = ""
    """What it means, and for `by_hand` where that comes from."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        try:
            Formula(self.formula)
            check_unit(self.unit)
        except InputError as error:
            raise _refused(str(error)) from None
        _quantities(*([] if self.by_hand is None else [self.by_hand]))
        return self


class Metric(Value):
    """A number of a run by its path, e.g. p50_e2el_ms or deployments.serve.mfu, and its unit."""

    metric: Text
    unit: str


class SimulatedRun(Value):
    """A scenario to run: a built-in name, or one written out (with `extends` as in any scenario file)."""

    scenario: str | dict[str, Any]
    metrics: Annotated[dict[Name, Metric], Field(min_length=1)]


class TrainingJob(Value):
    """A pretraining run in closed form; see `training/run.py`."""

    model: ModelRef
    tokens: Annotated[float, Field(gt=0)]
    node: NodeRef
    num_accelerators: PositiveInt
    site: SiteRef
    batch_tokens: PositiveInt
    seq_len: PositiveInt = 8192
    recipe: Recipe = Recipe()
    layout: TrainingLayout | None = None
    """The fastest if not given."""
    metrics: Annotated[dict[Name, Metric], Field(min_length=1)]
    """Attributes of the result: duration_s, accelerator_hours, usd, energy_j, flops, step.step_s, step.mfu, ..."""


class Check(Value):
    """Steps from inputs to an answer."""

    inputs: dict[Name, Input] = Field(default_factory=dict)
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]

    def measured(self) -> Iterator[str]:
        """Yield the names of values that runs give."""
        yield from ()


class Arithmetic(Check):
    """Nothing but published numbers and formulas."""

    kind: Literal["arithmetic"] = "arithmetic"


class Quality(Check):
    """Formulas that ask the quality model; see `functions.py`."""

    kind: Literal["quality"] = "quality"


class Simulate(Check):
    """Formulas over metrics of simulated runs."""

    kind: Literal["simulate"] = "simulate"
    runs: Annotated[dict[Name, SimulatedRun], Field(min_length=1)]

    def measured(self) -> Iterator[str]:
        """See Check."""
        return (name for run in self.runs.values() for name in run.metrics)


class Training(Check):
    """Formulas over what training jobs take."""

    kind: Literal["training"] = "training"
    jobs: Annotated[dict[Name, TrainingJob], Field(min_length=1)]

    def measured(self) -> Iterator[str]:
        """See Check."""
        return (name for job in self.jobs.values() for name in job.metrics)


KINDS: Mapping[str, type[Check]] = {
    "arithmetic": Arithmetic, "quality": Quality, "simulate": Simulate, "training": Training,
}  # fmt: skip


class _ByKind:
    """Validates a check as the class of its `kind`, so that mistakes are placed as in the file."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda check: check.model_dump()),
        )

    def validate(self, given: object) -> Check:
        """Return the check; unknown kinds are answered with the nearest and all."""
        if isinstance(given, Check):
            return given
        if not isinstance(given, Mapping) or given.get("kind") not in KINDS:
            kind = given.get("kind") if isinstance(given, Mapping) else given
            raise _refused(unknown("kind of check", kind, KINDS))
        return KINDS[given["kind"]].model_validate(dict(given))


class Said(Value):
    """What the claim says the answer is: a value (within a factor), or bounds."""

    text: Text
    value: Amount | None = None
    factor: Annotated[float, Field(gt=1)] = 1.25
    """By which the answer may be off `value`, up or down, and the claim still hold."""
    low: Amount | None = None
    high: Amount | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.value is None) == (self.low is None and self.high is None):
            raise _refused('give either "value" (with a "factor") or "low", "high" or both')
        if self.value is None and "factor" in self.model_fields_set:
            raise _refused('"factor" belongs to "value"; "low" and "high" are meant as they stand')
        _quantities(*(each for each in (self.value, self.low, self.high) if each is not None))
        return self


class Under(Value):
    """An assumption that the claim does not state, under which it may hold: other inputs, or another step."""

    assuming: Text
    inputs: dict[Name, Input] = Field(default_factory=dict)
    answer: Name | None = None

    @model_validator(mode="after")
    def _changes(self) -> Self:
        if not self.inputs and self.answer is None:
            raise _refused('an assumption must change something: give "inputs" or "answer"')
        return self


class Claim(Value):
    """One claim. `answer` is the step that is held against `said`."""

    id: Annotated[str, Field(pattern=r"^[A-Z][0-9]+[a-z]?$")]
    claim: Text
    """In our words."""
    said_by: Text
    asked: Text
    """What the check finds out."""
    said: Said
    check: Annotated[Arithmetic | Quality | Simulate | Training, _ByKind()]
    answer: Name
    assumes: tuple[Text, ...] = ()
    """What the check itself assumes in favour of the claim: then it holds under these at best."""
    under: tuple[Under, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _joined(self) -> Self:
        for problem in self._problems():
            raise _refused(problem)
        return self

    def _problems(self) -> Iterator[str]:
        check = self.check
        names = [*check.inputs, *check.measured(), *(step.name for step in check.steps)]
        yield from (f'two values are called "{name}"' for name in sorted(names) if names.count(name) > 1)
        known = {*check.inputs, *check.measured()}
        for step in check.steps:
            for name in sorted(Formula(step.formula).names() - known):
                yield f'step "{step.name}": {unknown("value before it", name, known)}'
            known.add(step.name)
        steps = [step.name for step in check.steps]
        for answer in (self.answer, *(each.answer for each in self.under)):
            if answer is not None and answer not in steps:
                yield f"answer: {unknown('step', answer, steps)}"
        for each in self.under:
            yield from (f"under: {unknown('input', name, check.inputs)}" for name in each.inputs
                        if name not in check.inputs)  # fmt: skip


def _quantities(*given: Amount) -> None:
    for each in given:
        try:
            quantity(each)
        except InputError as error:
            raise _refused(str(error)) from None


def _refused(text: str) -> PydanticCustomError:
    # Braces would be read as template fields by pydantic.
    return PydanticCustomError("claim", text.replace("{", "(").replace("}", ")"))
