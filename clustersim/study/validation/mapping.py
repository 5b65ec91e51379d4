"""The tables that say which node, model, engine, formats and lengths a row of measured results means.

They are data: `scenarios/validation/serving.yaml`. A rule holds for a row if each of its patterns (of a shell) fits the
column it names; of a table, the first rule that holds is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from clustersim import library
from clustersim.errors import InputError, unknown
from clustersim.kinds import Value
from clustersim.models.spec import ModelSpec
from clustersim.study.validation.rows import COLUMNS, RefusedError, Row
from clustersim.yaml_file import problems_of, read_yaml

Patterns = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]
RuleT = TypeVar("RuleT", bound="Rule")


class Rule(Value):
    """What to take for rows that fit every pattern, or why to refuse them."""

    where: dict[str, Patterns] = Field(default_factory=dict)
    """Column: patterns, of which one must fit. Without any, every row fits."""
    refuse: str = ""
    assumes: str = ""
    """What the row leaves open and this rule fills in."""

    @field_validator("where")
    @classmethod
    def _columns(cls, where: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for column in where:
            if column not in COLUMNS:
                raise ValueError(unknown("column", column, COLUMNS))
        return where

    def fits(self, row: Row) -> bool:
        """Say whether each column named fits one of its patterns."""
        return all(
            any(fnmatchcase(getattr(row, column), pattern) for pattern in patterns)
            for column, patterns in self.where.items()
        )


class NameRule(Rule):
    """A rule that gives the name of something in the library."""

    use: str = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.use) == bool(self.refuse):
            raise ValueError("a rule says either what to use or why to refuse")
        return self


class FormatRule(Rule):
    """A rule that gives a precision without its cache."""

    use: dict[str, str]


class Shape(Value):
    """Lengths as factors of the nominal or mean length of a row."""

    kind: Literal["fixed", "uniform", "quantiles"]
    low: float = 1.0
    high: float = 1.0
    input: dict[str, float] = Field(default_factory=dict)
    answer: dict[str, float] = Field(default_factory=dict)


class LengthRule(Rule):
    """A rule that gives the shape of the lengths."""

    use: Shape


class ClosedLoop(Value):
    """How long a closed loop runs, and what bounds its batch."""

    requests_per_user: Annotated[int, Field(ge=1)]
    min_requests: Annotated[int, Field(ge=1)]
    max_num_seqs: Annotated[int, Field(ge=1)]


class Offline(Value):
    """What bounds the batch and the step where all requests are queued at once."""

    max_num_seqs: Annotated[int, Field(ge=1)]
    token_budget: Annotated[int, Field(ge=1)]


class Loads(Value):
    """Settings of the loads that have any."""

    concurrency: ClosedLoop
    offline_all_at_once: Offline


class ServingRules(Value):
    """Every table of scenarios/validation/serving.yaml."""

    nodes: tuple[NameRule, ...]
    models: tuple[NameRule, ...]
    written_out: tuple[ModelSpec, ...]
    engines: tuple[NameRule, ...]
    formats: tuple[FormatRule, ...]
    kv_cache: tuple[NameRule, ...]
    lengths: tuple[LengthRule, ...]
    loads: Loads

    @property
    def own_models(self) -> Mapping[str, ModelSpec]:
        """The models written out, by name."""
        return {spec.name: spec for spec in self.written_out}


def first(rules: Sequence[RuleT], row: Row) -> RuleT | None:
    """Return the first rule that holds for a row, None if none does; raises RefusedError if it refuses the row."""
    found = next((rule for rule in rules if rule.fits(row)), None)
    if found is not None and found.refuse:
        raise RefusedError(found.refuse)
    return found


@cache
def load_rules() -> ServingRules:
    """Return the tables; raises InputError with file and line."""
    document = read_yaml(library.ROOT / "scenarios" / "validation" / "serving.yaml")
    data: Any = document.data
    try:
        return ServingRules.model_validate(data)
    except ValidationError as error:
        raise InputError(problems_of(error, document, ServingRules)) from None
