"""Read a YAML file into plain data that remembers the line of every key.

YAML 1.2 (so `on:` and `no` are words). Refused, each with its line: a duplicate key, a tag, a whole number of more than
18 digits, nesting deeper than 64, and an alias (shared nodes let a short file grow without bound).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from clustersim.errors import InputError, Problem, shortened, unknown
from clustersim.text_file import read_text

Key = tuple[str | int, ...]
_MAX_BYTES = 4e6
_MAX_DEPTH = 64
_LARGEST = 10**18
_YAML = "tag:yaml.org,2002:"
_TAGS = {
    "scalar": {_YAML + tag for tag in ("str", "int", "float", "bool", "null")},
    "sequence": {_YAML + "seq"},
    "mapping": {_YAML + "map"},
}


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
    text = read_text(path, _MAX_BYTES, "put tables of numbers into a CSV beside it")
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str = "<text>") -> Document:
    """Parse YAML text; `file` is the name that errors and places carry."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    node = _compose(yaml, text, file)
    if node is None:
        raise InputError([Problem(file, "is empty")])
    reader = _Reader(yaml.constructor, file)
    data = reader.build(node, ())
    return Document(data, reader.places, file)


def _compose(yaml: Any, text: str, file: str) -> Any:
    """Return the root node of a text; raises InputError, with its line, for what is no YAML."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    def refuse(line: int, what: object) -> InputError:
        return InputError([Problem(str(Place(file, line)), f"not valid YAML: {_first_line(what)}")])

    try:
        return yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        tab = "\\t" in str(error.problem)
        mend = "; indent with spaces" if tab else ""
        raise refuse(mark.line + 1 if mark else 0, f"{error.problem or error.context}{mend}") from None
    except RecursionError:
        raise InputError([Problem(file, "is nested too deeply to read")]) from None
    except YAMLError as error:  # its reader's: a character that YAML does not have
        at = getattr(error, "position", None)
        raise refuse(text.count("\n", 0, at) + 1 if isinstance(at, int) else 0, error) from None
    except Exception as error:  # noqa: BLE001 - the parser's own slips over odd input, of many types
        raise refuse(0, error) from None


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Reader:
    """Turns nodes into plain data, and writes down where each key stood."""

    def __init__(self, constructor: Any, file: str) -> None:
        self.places: dict[Key, Place] = {}
        self._constructor = constructor
        self._file = file
        self._seen: set[int] = set()

    def build(self, node: Any, key: Key) -> Any:
        """Return the data of a node that stands at `key`; raises InputError with its line."""
        if id(node) in self._seen:
            place = Document(None, self.places, self._file).place(key)  # the node's own is that of its anchor
            what = "aliases (*name) are not supported; repeat the value or use `extends:`"
            raise InputError([Problem(f"{place}: {'.'.join(map(str, key))}", what)])
        self._seen.add(id(node))
        self.places.setdefault(key, self._place(node))
        if len(key) > _MAX_DEPTH:
            raise self._refuse(node, f"is nested too deeply: over {_MAX_DEPTH} levels", ())
        if str(node.tag) not in _TAGS[node.id]:
            raise self._refuse(node, _untagged(str(node.tag)), key)
        if node.id == "mapping":
            return self._mapping(node, key)
        if node.id == "sequence":
            return [self.build(item, (*key, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, key)

    def _mapping(self, node: Any, key: Key) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                raise self._refuse(key_node, "a key must be a word; write `key: value`", key)
            name = str(key_node.value)
            if name == "<<" and key_node.style is None:
                raise self._refuse(key_node, "merging (<<) is not supported; use `extends:`", key)
            if name in mapping:
                raise self._refuse(
                    key_node, f'the key "{shortened(name)}" is given twice; leave one of them', key
                )
            self.places[(*key, name)] = self._place(key_node)
            mapping[name] = self.build(value_node, (*key, name))
        return mapping

    def _scalar(self, node: Any, key: Key) -> Any:
        try:
            value = self._constructor.construct_object(node, deep=True)
        except Exception as error:  # noqa: BLE001 - Python's conversion of odd numbers, of many types
            raise self._refuse(node, f"{shortened(node.value)} cannot be read: {error}", key) from None
        if isinstance(value, int) and abs(value) >= _LARGEST:
            what = f"{shortened(node.value, 24)} is too large: whole numbers have 18 digits at most"
            raise self._refuse(node, what, key)
        return value

    def _place(self, node: Any) -> Place:
        return Place(self._file, node.start_mark.line + 1)

    def _refuse(self, node: Any, what: str, key: Key) -> InputError:
        where = str(self._place(node))
        dotted = ".".join(map(str, key))
        return InputError([Problem(f"{where}: {dotted}" if dotted else where, what)])


def _untagged(tag: str) -> str:
    if tag == f"{_YAML}timestamp":
        return "is a date; put it in quotes to make it text"
    return f"the tag {shortened(tag)} is not supported; leave it out"


def problems_of(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into problems with file, line, key, and the nearest valid key."""
    found = []
    items = [(_key_of(item["loc"]), item) for item in error.errors(include_url=False)]
    extra = [key for key, item in items if item["type"] == "extra_forbidden"]
    for key, item in items:
        if item["type"] == "missing" and any(_misspelt(other, key) for other in extra):
            continue  # said once, of the key that is there
        at, what = key, item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            what = unknown("key", key[-1], _fields_at(model, document.data, key[:-1]))
        elif item["type"] == "missing":
            what = f'"{key[-1]}" is missing' + _meaning(model, document.data, key)
            at = key[:-1]
        dotted = ".".join(str(part) for part in at)
        where = str(document.place(at))
        found.append(Problem(f"{where}: {dotted}" if dotted else where, what))
    return found


def _key_of(location: Sequence[str | int]) -> Key:
    """Return pydantic's location without its own words."""
    return tuple(part for part in location if not (isinstance(part, str) and part.startswith("function-")))


def _misspelt(key: Key, meant: Key) -> bool:
    """Say whether a key that is not known stands where another is missing, and is nearly it."""
    near = difflib.SequenceMatcher(None, str(key[-1]), str(meant[-1])).ratio() > 0.5
    return key[:-1] == meant[:-1] and near


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


def field_at(model: type[BaseModel], data: Any, key: Key) -> FieldInfo | None:
    """Return the field that `key` names in data of a model, None where there is no such field."""
    for found in _models_at(model, data, key[:-1]):
        for name, info in found.model_fields.items():
            if key[-1] in (name, info.alias):
                return info
    return None


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
