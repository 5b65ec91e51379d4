"""Settings: `a.b.0.c=value`, put into a document before it is validated."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from clustersim.errors import InputError, Problem, shortened
from clustersim.hardware import reference
from clustersim.kinds import OneOf
from clustersim.yaml_file import Document, Key, Place, field_at, parse_yaml

#: Key -> what the schema says of it, None where it knows no such key.
_Field = Callable[[Key], FieldInfo | None]


def apply_setting(document: Document, setting: str, model: type[BaseModel]) -> Document:
    """Apply `a.b.0.c=value` to a document of `model`; list items by index or by their name, the value as YAML."""
    where = f"--set {shortened(setting)}"
    path, equals, text = setting.partition("=")
    if not equals or not path.strip():
        raise InputError([Problem(where, "write it like --set deployments.0.replicas=4")])
    if path.strip() in ("extends", "study"):
        raise InputError([Problem(where, f'"{path.strip()}" stands in the file; it cannot be set')])
    value = parse_yaml(text if text.strip() else '""', where).data
    return replace(document, path, value, where, model)


def replace(document: Document, path: str, value: object, where: str, model: type[BaseModel]) -> Document:
    """Return a document of `model` with the value at a dotted path replaced; errors and places carry `where`."""
    steps = path.strip().split(".")
    if steps[0] == "workload":
        steps[:1] = ["workloads", "0"]
    try:
        data, key = _put(document.data, steps, value, (), lambda key: field_at(model, document.data, key))
    except KeyError as error:
        raise InputError([Problem(where, error.args[0])]) from None
    places = {known: place for known, place in document.places.items() if known[: len(key)] != key}
    made = {key[:end]: Place(where, 0) for end in range(1, len(key)) if key[:end] not in places}
    return Document(data, {**places, **made, key: Place(where, 0)}, document.file)


def put(data: Any, key: Key, value: object) -> Any:
    """Return a copy of plain data with the value at `key`, which is there."""
    if not key:
        return value
    step, rest = key[0], key[1:]
    if isinstance(data, list):
        return [put(item, rest, value) if index == step else item for index, item in enumerate(data)]
    return {**data, step: put(data[step], rest, value)}


def _put(
    node: Any, steps: Sequence[str], value: Any, key: Key, field: _Field, filled: bool = True
) -> tuple[Any, Key]:
    """Return a copy of `node` with the value at `steps`, and the full key at which it now stands.

    What is absent on the way becomes the field's default if `filled`, else an empty mapping.
    """
    if not steps:
        return value, key
    step, rest = steps[0], steps[1:]
    if isinstance(node, list):
        index = _index(node, step)
        inner, full = _put(node[index], rest, value, (*key, index), field, filled)
        return [*node[:index], inner, *node[index + 1 :]], full
    node = _opened(node, field(key) if key else None, filled)
    if not isinstance(node, Mapping):
        raise KeyError(f'"{".".join(map(str, key))}" is {shortened(repr(node))}, which has no "{step}"')
    filled = filled and "use" not in node  # what a workload uses may have something else in its place
    inner, full = _put(node.get(step), rest, value, (*key, step), field, filled)
    return {**node, step: inner}, full


def _opened(node: Any, info: FieldInfo | None, filled: bool) -> Any:
    """Return what stands in a field as a mapping, where it is one written short or left to its default."""
    if node is None and info is not None and filled:
        node = _default(info)
    if node is None:
        return {}
    if isinstance(node, str):
        word = _word(info)
        return {word: node} if word else node
    return node


def _default(info: FieldInfo) -> Any:
    """Return the default of a field as it would be written, None where it has none."""
    if isinstance(info.default, BaseModel):
        return info.default.model_dump(mode="json", exclude_unset=True)
    return info.default if isinstance(info.default, str) else None


def _word(info: FieldInfo | None) -> str | None:
    """Return which key the bare word of a field stands for: a part's kind, or the base of a variation."""
    for mark in reference.marks(info):
        if isinstance(mark, OneOf):
            return "kind"
        if isinstance(mark, reference.Ref):
            return "base"
    return None


def _index(items: list[Any], step: str) -> int:
    names = [str(item.get("name", "")) for item in items if isinstance(item, Mapping)]
    if step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(items):
        return int(step)
    if step in names:
        return names.index(step)
    near = difflib.get_close_matches(step, names, n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    raise KeyError(
        f'no item "{shortened(step)}" in a list of {len(items)} (0 to {len(items) - 1}: {", ".join(names)}).{hint}'
    )
