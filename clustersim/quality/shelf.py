"""Values read from a shelf of the library by name."""

from __future__ import annotations

from functools import cache
from typing import TypeVar, cast

from pydantic import ValidationError

from clustersim import library
from clustersim.errors import InputError, Problem
from clustersim.kinds import Value
from clustersim.yaml_file import problems_of, read_yaml

ValueT = TypeVar("ValueT", bound=Value)


def load(shelf: str, model: type[ValueT], name: str) -> ValueT:
    """Return what the shelf holds under `name`; raises InputError (nearest names, or file:line)."""
    return cast("ValueT", _load(shelf, model, name))


@cache
def _load(shelf: str, model: type[Value], name: str) -> Value:
    document = read_yaml(library.find(shelf, name))
    try:
        value = model.model_validate(document.data)
    except ValidationError as error:
        raise InputError(problems_of(error, document, model)) from None
    if getattr(value, "name", None) != name:
        where = str(document.place(("name",)))
        raise InputError([Problem(where, f'"name" must be the name of the file, "{name}"')])
    return value
