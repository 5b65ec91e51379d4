"""Read a YAML file into plain data that remembers the line of every key.

YAML 1.2 (so `on:` and `no` are words). Refused, each with its line: a duplicate key, a tag, a number that is not
finite, and an alias (shared nodes let a short file grow without bound).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from clustersim.errors import InputError, Problem, unknown

Key = tuple[str | int, ...]
_MAX_FILE_BYTES = 64 * 1000 * 1000
_SCALARS = {"tag:yaml.org,2002:" + tag for tag in ("str", "int", "float", "bool", "null")}


@dataclass(frozen=True)
class Place:
    """A file and a line in it (from 1)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, scalar) and, for every key path in it, where it was written."""

    data: Any
    places: Mapping[Key, Place] = field(default_factory=dict)
    file: str = ""

    def place(self, key: Key) -> Place:
        """Return where `key` was written, or the nearest thing that holds it."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.places:
                return self.places[key[:end]]
        return Place(self.file, 0)


def read_yaml(path: Path) -> Document:
    """Read one file; raises InputError for an unreadable or malformed one."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError([Problem(str(path), "is over 64 MB: is this a scenario?")])
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise InputError([Problem(str(path), "is not UTF-8 text")]) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str = "<text>") -> Document:
    """Parse YAML text; `file` is the name that errors and places carry."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InputError([Problem(str(Place(file, line)), f"not valid YAML: {error.problem}")]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError([Problem(file, f"not valid YAML: {str(error).splitlines()[0]}")]) from None
    if node is None:
        raise InputError([Problem(file, "is empty")])
    places: dict[Key, Place] = {}
    seen: set[int] = set()

    def refuse(at: Any, what: str) -> InputError:
        return InputError([Problem(str(Place(file, at.start_mark.line + 1)), what)])

    def build(node: Any, key: Key) -> Any:
        if id(node) in seen:
            raise refuse(node, "aliases (*name) are not supported; repeat the value or use `extends:`")
        seen.add(id(node))
        places.setdefault(key, Place(file, node.start_mark.line + 1))
        if node.id == "mapping":
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                name = str(key_node.value) if key_node.id == "scalar" else None
                if name is None:
                    raise refuse(key_node, "a key must be a word")
                if name in mapping:
                    raise refuse(key_node, f'the key "{name}" is given twice')
                places[(*key, name)] = Place(file, key_node.start_mark.line + 1)
                mapping[name] = build(value_node, (*key, name))
            return mapping
        if node.id == "sequence":
            return [build(item, (*key, index)) for index, item in enumerate(node.value)]
        if str(node.tag) not in _SCALARS:
            raise refuse(node, f"the tag {node.tag} is not supported")
        return yaml.constructor.construct_object(node, deep=True)

    try:
        return Document(build(node, ()), places, file)
    except RecursionError:
        raise InputError([Problem(file, "is nested too deeply")]) from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError([Problem(file, f"holds a value that cannot be read: {error}")]) from None


def problems_of(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into problems with file, line, key, and the nearest valid key."""
    found = []
    for item in error.errors(include_url=False):
        key = tuple(
            part for part in item["loc"] if not (isinstance(part, str) and part.startswith("function-"))
        )
        what = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            what = unknown("key", key[-1], _fields_at(model, document.data, key[:-1]))
        elif item["type"] == "missing":
            what = f'"{key[-1]}" is missing' + _meaning(model, document.data, key)
            key = key[:-1]
        dotted = ".".join(str(part) for part in key)
        where = str(document.place(key))
        found.append(Problem(f"{where}: {dotted}" if dotted else where, what))
    return found


def _meaning(model: type[BaseModel], data: Any, key: Key) -> str:
    """Return what the missing key is for, in parentheses, where its field says so."""
    for found in _models_at(model, data, key[:-1]):
        for name, info in found.model_fields.items():
            if key[-1] in (name, info.alias) and info.description:
                return f" ({info.description.splitlines()[0].rstrip('.')})"
    return ""


def _fields_at(model: type[BaseModel], data: Any, key: Sequence[str | int]) -> list[str]:
    """Return the YAML keys that the model at `key` knows."""
    known = _models_at(model, data, key)
    return sorted({field.alias or name for m in known for name, field in m.model_fields.items()})


def _models_at(model: type[BaseModel], data: Any, key: Sequence[str | int]) -> list[type[BaseModel]]:
    """Return the models that may stand at `key`; parts are looked up by the kind that `data` names."""
    from clustersim.kinds import kinds_in  # kinds is below this module, but only errors need it

    known: list[type[BaseModel]] = [model]
    for step in key:
        if isinstance(data, Mapping):
            data = data.get(str(step))
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        if isinstance(step, int):
            continue
        fields = [f for m in known for n, f in m.model_fields.items() if step in (n, f.alias)]
        known = [found for f in fields for found in kinds_in(f, data)]
    return known
