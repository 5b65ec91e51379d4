"""Distributions of a time: the same kinds as of any number, written with units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic_core import core_schema

from clustersim.kinds import Part, kinds
from clustersim.units import Quantity, write
from clustersim.workload.distributions import Distribution, NumberOr

_TIME = Quantity("s", "30 s")


@dataclass(frozen=True)
class DurationOr(NumberOr):
    """Marks a field for a distribution of seconds; `30 s` is shorthand for `{kind: fixed, value: 30 s}`.

    Every setting of a distribution but its `kind` and those that it calls `pure` is a time, and needs a unit.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(_written, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        family = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [_TIME.__get_pydantic_json_schema__(None, None), *family["anyOf"][1:]]}

    def validate(self, value: object) -> Part:
        """Return the part that `value` describes; raises a pydantic error where a time has no unit."""
        if isinstance(value, Part):
            return super().validate(value)
        if not isinstance(value, Mapping) and not (isinstance(value, str) and value in kinds(self.family)):
            value = {"kind": "fixed", "value": value}
        if isinstance(value, Mapping):
            value = _each(value, _pure(value.get("kind")), _TIME.validate)
        return super().validate(value)


#: A field that says how a time is distributed: `30 s`, or `{kind: lognormal, median: 100 s, p99: 20 min}`.
AnyDuration = Annotated[Distribution, DurationOr("distribution")]


def _pure(kind: object) -> frozenset[str]:
    known = kinds("distribution")
    part = known.get(kind) if isinstance(kind, str) else None
    return part.pure if part is not None and issubclass(part, Distribution) else frozenset()


def _each(settings: Mapping[str, Any], pure: frozenset[str], turn: Callable[[Any], Any]) -> dict[str, Any]:
    """Return settings with `turn` done to every time in them: to each value of a table, to none that is null."""

    def one(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: turn(each) for key, each in value.items()}
        return value if value is None else turn(value)

    return {name: value if name == "kind" or name in pure else one(value) for name, value in settings.items()}


def _written(part: object, info: core_schema.SerializationInfo) -> object:
    if not isinstance(part, Distribution):
        return part
    dumped = part.model_dump(mode="json", exclude_unset=info.exclude_unset)
    return _each(dumped, part.pure, lambda seconds: write(seconds, "s"))
