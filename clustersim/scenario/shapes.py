"""Plain words for a list, or a mapping of settings, in whose place something else was given."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from clustersim.errors import shortened


def listed(noun: str, example: str) -> BeforeValidator:
    """Return the mark of a field that holds a list of `noun`, one of which is written like `example`."""

    def check(given: object) -> object:
        if isinstance(given, list | tuple):
            return given
        raise _refused(given, f"give a list of {noun}: [{example}], or leave it out")

    return BeforeValidator(check)


def settings(example: str) -> BeforeValidator:
    """Return the mark of a field that holds a mapping of settings, written like `example`."""

    def check(given: object) -> object:
        if isinstance(given, Mapping | BaseModel):
            return given
        raise _refused(given, f"give its settings: {example}, or leave it out")

    return BeforeValidator(check)


def _refused(given: object, wanted: str) -> PydanticCustomError:
    what = "empty" if given is None else "a mapping" if isinstance(given, Mapping) else shortened(given, 40)
    return PydanticCustomError("shape", "{said}", {"said": f"is {what}; {wanted}"})
