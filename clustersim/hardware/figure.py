"""A figure: a quantity with its evidence, source and date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import model_validator

from clustersim.kinds import Value

#: How a number is known, best first. `assumed` is a figure for which no public source was confirmed.
Evidence = Literal["measured", "fitted", "datasheet", "published", "assumed"]

#: The source of a figure that a scenario gives without saying where it is from.
BY_USER = "given by the user"

T = TypeVar("T")


class Figure(Value, Generic[T]):
    """A quantity and how it is known. A bare value (in a scenario) is `assumed`, from "given by the user"."""

    value: T
    evidence: Evidence = "assumed"
    source: str = BY_USER
    date: str = ""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        return given if isinstance(given, Mapping | Figure) else {"value": given}
