"""In which settings resolved scenarios differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clustersim.scenario.schema import Scenario

#: Settings that no result depends on, or that a comparison makes equal.
_APART = ("name", "description", "seed", "outputs")
_ABSENT = "-"
#: What says nothing of a figure's value.
_ABOUT = ("source", "date", "note")


@dataclass(frozen=True)
class Setting:
    """One setting that differs: its dotted path (list items by name) and what each scenario says."""

    path: str
    values: tuple[str, ...]

    @property
    def is_demand(self) -> bool:
        """Whether it changes what is asked of a fleet, so that results are not of like for like.

        Who answers and how (the deployment, its strategy, how able its model is) is not in the question.
        """
        if self.path.startswith("workloads"):
            path = f"{self.path}."
            return not any(
                part in path for part in (".to.", ".strategy.", ".accuracy.", ".weights.", ".forks.")
            )
        return self.path.split(".")[0] in ("horizon", "warm_up")


def differing(scenarios: Sequence[Scenario]) -> list[Setting]:
    """Return the settings in which the scenarios differ, defaults included, in the order of a scenario's keys.

    Different things from the library (nodes, models), and parts of different kinds, are one row: their names. A
    variation (hgx-h100*) is held against its base figure by figure.
    """
    dumps = [
        {key: value for key, value in each.model_dump(mode="json").items() if key not in _APART}
        for each in scenarios
    ]
    return list(_rows("", dumps))


def paths(scenario: Scenario) -> set[str]:
    """Return the dotted path of every single value in a scenario as `--set` takes it: items by number and by name."""
    return set(_paths("", scenario.model_dump(mode="json")))


def _paths(at: str, node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _paths(f"{at}.{key}".strip("."), value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _paths(f"{at}.{index}", value)
            if isinstance(value, Mapping) and "name" in value:
                yield from _paths(f"{at}.{value['name']}", value)
    else:
        yield at


def _rows(path: str, nodes: Sequence[Any], in_list: bool = False) -> Iterator[Setting]:
    if all(node == nodes[0] for node in nodes):
        return
    if all(isinstance(node, Mapping) for node in nodes) and (in_list or not _another(nodes)):
        for key in dict.fromkeys(key for node in nodes for key in node):
            if key not in _ABOUT:
                yield from _rows(f"{path}.{key}".strip("."), [node.get(key) for node in nodes])
    elif all(isinstance(node, list) for node in nodes) and any(map(_named, nodes)):
        tables = [_by_name(node) for node in nodes]
        for key in dict.fromkeys(key for table in tables for key in table):
            yield from _rows(f"{path}.{key}", [table.get(key) for table in tables], in_list=True)
    else:
        yield Setting(path, tuple(_short(node) for node in nodes))


def _another(nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether mappings are different things: of unlike names or kinds."""
    return any(len({str(node.get(key)).rstrip("*") for node in nodes}) > 1 for key in ("name", "kind"))


def _named(node: Sequence[Any]) -> bool:
    return bool(node) and all(isinstance(item, Mapping) for item in node)


def _by_name(node: Sequence[Any]) -> dict[str, Any]:
    """Return list items by their names; a single item, or items without names, by number."""
    names = [str(item.get("name", index)) for index, item in enumerate(node)]
    if len(names) == 1 or len(set(names)) < len(names):
        names = [str(index) for index in range(len(names))]
    return dict(zip(names, node, strict=True))


def _short(node: Any) -> str:
    """Return a value in a few words: a thing by its name, a part by its kind and settings, a figure by its value."""
    if node is None:
        return _ABSENT
    if isinstance(node, Mapping):
        if "name" in node:
            return str(node["name"])
        if "value" in node and "evidence" in node:
            return str(node["value"])
        inner = [f"{key} {_short(value)}" for key, value in node.items() if key not in ("kind", *_ABOUT)]
        kind = [str(node["kind"])] if "kind" in node else []
        return " ".join([*kind, f"({', '.join(inner)})"] if inner else kind)
    if isinstance(node, list):
        few = ", ".join(_short(item) for item in node[:4])
        return f"[{few}{f', ... {len(node)} in all' if len(node) > 4 else ''}]"
    return str(node)
