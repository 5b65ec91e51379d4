"""One registry for every family of parts: schedulers, routers, arrivals, lengths, networks, ...

A part is one frozen pydantic model with a `kind` literal. Its fields are its settings, its docstring its
documentation. Registering it makes it known to YAML, `clustersim list`, the JSON schema and the conformance tests:

    @register("router")
    class RoundRobin(Part):
        "Send each request to the next replica in turn."
        kind: Literal["round_robin"] = "round_robin"

Every module of a family's package is imported when the family is first asked for, so a new file is enough.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from clustersim.errors import unknown
from clustersim.units import yaml_name


class Value(BaseModel):
    """An immutable, strictly validated value; a field `ttft_s` is written `ttft: 2 s` in YAML."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=yaml_name,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    def model_post_init(self, _context: Any, /) -> None:
        """Count `kind` as given, so that a dump of the given settings alone still says what it is."""
        if "kind" in type(self).model_fields:
            self.model_fields_set.add("kind")


class Part(Value):
    """A policy chosen by its `kind`."""

    kind: str


PartT = TypeVar("PartT", bound=type[Part])

#: Family name -> the package whose modules hold its kinds. A family is declared here and nowhere else.
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "scheduler": "clustersim.serving.schedulers",
        "router": "clustersim.serving.routers",
        "admission": "clustersim.serving.admission",
        "autoscaler": "clustersim.serving.autoscalers",
        "failure": "clustersim.hardware.failures",
        "arrivals": "clustersim.workload.arrivals",
        "lengths": "clustersim.workload.lengths",
        "distribution": "clustersim.workload.distributions",
        "network": "clustersim.network.topologies",
        "price": "clustersim.economics.prices",
        "warm_up": "clustersim.scenario.warm_up",
        "strategy": "clustersim.workload.strategies",
        "prefix": "clustersim.workload.prefix_kinds",
        "expert_popularity": "clustersim.models.popularity",
        "speculation": "clustersim.cost.speculation",
    }
)
_registered: dict[str, dict[str, type[Part]]] = {}
_loaded: set[str] = set()
_in_schema: set[str] = set()
"""Families whose schema is being made."""


def register(family: str) -> Callable[[PartT], PartT]:
    """Class decorator: make a `Part` known to `family` under the default of its `kind` field."""

    def add(part: PartT) -> PartT:
        kind = part.__pydantic_fields__["kind"].default
        if family not in FAMILIES or not isinstance(kind, str):
            raise TypeError(f"{part.__name__}: needs a known family and a literal default kind")
        known = _registered.setdefault(family, {})
        if kind in known and known[kind].__module__ != part.__module__:
            raise TypeError(f'{family} kind "{kind}" is registered twice')
        known[kind] = part
        return part

    return add


def kinds(family: str) -> Mapping[str, type[Part]]:
    """Return every registered kind of `family`, by name, in alphabetical order."""
    if family not in _loaded:
        package = importlib.import_module(FAMILIES[family])
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            importlib.import_module(f"{package.__name__}.{module.name}")
        _loaded.add(family)
    return dict(sorted(_registered.get(family, {}).items()))


@dataclass(frozen=True)
class OneOf:
    """Marks a field as holding any registered kind of `family`: `Annotated[Part, OneOf("router")]`.

    In YAML a part is a mapping with `kind`, or the bare kind where it needs no settings (`router: round_robin`).
    """

    family: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        known = kinds(self.family)
        names = {"enum": list(known)}
        if self.family in _in_schema:  # parts made of parts of their own family: said once, at the outermost
            return {"anyOf": [{"type": "object", "properties": {"kind": names}, "required": ["kind"]}, names]}
        _in_schema.add(self.family)
        try:
            return {"anyOf": [inline_schema(part) for part in known.values()] + [names]}
        finally:
            _in_schema.discard(self.family)

    def validate(self, value: object) -> Part:
        """Return the part that `value` describes; unknown kinds are answered with the nearest and all names."""
        known = kinds(self.family)
        if isinstance(value, Part):
            if type(value) in known.values():
                return value
            raise _refuse(f"{type(value).__name__} is no {self.family}")
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping) or "kind" not in value:
            raise _refuse(f'a {self.family} is a mapping with "kind", one of: {", ".join(known)}')
        kind = value["kind"]
        if not isinstance(kind, str) or kind not in known:
            raise _refuse(unknown(self.family, kind, known))
        return known[kind].model_validate(dict(value))


def _dump(part: object, info: core_schema.SerializationInfo) -> object:
    if not isinstance(part, Part):
        return part
    return part.model_dump(mode="json", exclude_unset=info.exclude_unset)


def inline_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of `model` with its references resolved in place."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolve(definitions[node["$ref"].rsplit("/", 1)[1]])
            return {key: resolve(item) for key, item in node.items()}
        return [resolve(item) for item in node] if isinstance(node, list) else node

    resolved: dict[str, Any] = resolve(schema)
    return resolved


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("part", text.replace("{", "(").replace("}", ")"))


def kinds_in(field: FieldInfo, data: object) -> list[type[BaseModel]]:
    """Return the models that a field may hold, where `data` is what was given for it (a part by its kind)."""
    found: list[type[BaseModel]] = []

    def look(annotation: Any) -> None:
        for mark in getattr(annotation, "__metadata__", ()):
            if isinstance(mark, OneOf):
                family(mark.family)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        for inner in get_args(annotation):
            look(inner)

    def family(name: str) -> None:
        kind = data.get("kind") if isinstance(data, Mapping) else None
        if isinstance(kind, str) and kind in kinds(name):
            found.append(kinds(name)[kind])

    for mark in field.metadata:
        if isinstance(mark, OneOf):
            family(mark.family)
    look(field.annotation)
    return [model for model in found if model is not Part]
