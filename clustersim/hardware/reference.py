"""Fields that name something on a shelf of the library: `accelerator: h100-sxm`, or a variation on it.

A reference is a name, a file `./engine.yaml` of one's own, a variation `{base: h100-sxm, memory_bandwidth: 6 TB/s}` on
either, or the whole written out. It is dumped as the whole, so that a resolved scenario stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from clustersim import library, text_file
from clustersim.errors import InputError, Problem, shortened, unknown
from clustersim.kinds import Value
from clustersim.yaml_file import Document, Key, field_at, problems_of, read_yaml

ValueT = TypeVar("ValueT", bound=Value)
#: Endings of files that hold one thing of a shelf.
_ENDINGS = (".yaml", ".yml")


def load(shelf: str, model: type[ValueT], name: str) -> ValueT:
    """Return what the shelf holds under `name`; raises InputError (nearest names, or file:line)."""
    return cast("ValueT", _load(shelf, model, name))


@cache
def _load(shelf: str, model: type[Value], name: str) -> Value:
    document = read_yaml(library.find(shelf, name))
    value = _validated(document, model)
    if getattr(value, "name", None) != name:
        where = str(document.place(("name",)))
        raise InputError([Problem(where, f'"name" must be the name of the file, "{name}"')])
    return value


def _validated(document: Document, model: type[ValueT]) -> ValueT:
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise InputError(problems_of(error, document, model)) from None


def is_file(name: str) -> bool:
    """Say whether a reference means a file rather than a name on a shelf."""
    return "/" in name or name.endswith(_ENDINGS)


def find_files(document: Document, model: type[BaseModel]) -> Document:
    """Make references to files in a document of `model` absolute; which fields hold references their types say.

    Each file is looked for beside the file that names it, then from here. Raises InputError for one that is not there,
    with the line that names it and the nearest file beside it.
    """

    def found(node: Any, key: Key) -> Any:
        if isinstance(node, Mapping):
            return {name: found(value, (*key, name)) for name, value in node.items()}
        if isinstance(node, list):
            return [found(value, (*key, index)) for index, value in enumerate(node)]
        if not (isinstance(node, str) and is_file(node)):
            return node
        holder = key[:-1] if key[-1:] == ("base",) else key
        field = field_at(model, document.data, holder) if holder else None
        return _absolute(node, key, document) if _is_reference(field) else node

    return Document(found(document.data, ()), document.places, document.file)


def _is_reference(field: FieldInfo | None) -> bool:
    return any(isinstance(mark, Ref) for mark in marks(field))


def marks(field: FieldInfo | None) -> Iterator[Any]:
    """Yield what a field's annotation is marked with, inside unions too; nothing for no field."""
    if field is None:
        return
    yield from field.metadata
    waiting = [field.annotation]
    while waiting:
        annotation = waiting.pop()
        yield from getattr(annotation, "__metadata__", ())
        waiting += get_args(annotation)


def _absolute(name: str, key: Key, document: Document) -> str:
    """Return the path of a file that stands at `key`; raises InputError."""
    place = document.place(key)
    beside = Path(place.file).parent / name if place.line else Path(name)
    path = beside if text_file.is_file(beside) else Path(name)
    if text_file.exists(path) and (why := text_file.why_not(path)):
        raise InputError([Problem(f"{place}: {'.'.join(map(str, key))}", f'"{shortened(name)}" {why}')])
    if not text_file.is_file(path):
        there = beside.parent.iterdir() if text_file.exists(beside.parent / ".") else ()
        files = [each.name for each in there if each.suffix in _ENDINGS]
        what = unknown("file", name, files, str(beside.parent)) if files else f'no file "{shortened(name)}"'
        raise InputError([Problem(f"{place}: {'.'.join(map(str, key))}", what)])
    return str(path.resolve())


@dataclass(frozen=True)
class Ref:
    """Marks a field as a reference to a shelf: `Annotated[Accelerator, Ref("accelerators")]`."""

    shelf: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda given: self.resolve(given, source), handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        name = {"enum": list(library.names(self.shelf))}
        file = {"type": "string", "pattern": r"/|\.ya?ml$"}
        variation = {"type": "object", "required": ["base"], "properties": {"base": {"anyOf": [name, file]}}}
        return {"anyOf": [name, file, variation, handler(schema)]}

    def resolve(self, given: object, model: type[Value]) -> object:
        """Return the value that is named, the fields of a variation, or `given` where it is written out."""
        if isinstance(given, str):
            return self._find(given, model)
        if isinstance(given, Mapping) and "base" in given:
            return self._vary(given, model)
        if isinstance(given, model) or (isinstance(given, Mapping) and "name" in given):
            return given
        example = (*library.names(self.shelf), "name")[0]
        noun = self.shelf.removesuffix("s")
        raise _refused(
            f'{noun} wants a name ("{example}"), a file ("./{noun}.yaml"), a variation ("base: {example}" and what '
            'differs), or everything written out with a "name"'
        )

    def _find(self, name: str, model: type[Value]) -> Value:
        try:
            if is_file(name):
                return _validated(find_files(read_yaml(Path(name)), model), model)
            return load(self.shelf, model, name)
        except InputError as error:
            raise _refused("; ".join(map(str, error.problems))) from None

    def _vary(self, given: Mapping[str, Any], model: type[Value]) -> object:
        """Return the base's fields with those of `given` in their place; the name gains a star."""
        changes = {_alias(model, key): value for key, value in given.items() if key != "base"}
        try:
            base = self._find(str(given["base"]), model)
        except PydanticCustomError as error:
            detail = InitErrorDetails(type=error, loc=("base",), input=given["base"])
            raise ValidationError.from_exception_data(model.__name__, [detail]) from None
        if not changes:
            return base
        return _varied(base, changes)


def _varied(base: Value, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `base` with changes; a mapping without a base or name varies what the base has there."""
    fields = {_alias(type(base), name): getattr(base, name) for name in type(base).model_fields}
    for key, change in changes.items():
        own = fields.get(key)
        nested = isinstance(change, Mapping) and hasattr(own, "name") and not {"base", "name"} & change.keys()
        fields[key] = _varied(own, change) if nested and isinstance(own, Value) else change
    return fields | ({} if "name" in changes else {"name": f"{fields['name']}*"})


def _alias(model: type[Value], key: str) -> str:
    """Return the YAML key of a field given by its name or its key; other keys as they are, to be refused."""
    field = model.model_fields.get(key)
    return (field.alias if field else None) or key


def _refused(text: str) -> PydanticCustomError:
    # Braces would be read as template fields by pydantic.
    return PydanticCustomError("reference", text.replace("{", "(").replace("}", ")"))
