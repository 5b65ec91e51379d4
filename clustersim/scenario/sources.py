"""Where a scenario comes from: a file or a built-in, what it `extends`, the workloads that it `use`s."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clustersim import library
from clustersim.errors import InputError, Problem, shortened, unknown
from clustersim.text_file import exists, is_file, why_not
from clustersim.yaml_file import Document, Key, read_yaml

_ENDINGS = (".yaml", ".yml")
_SHELVES = {"scenarios": "built-in scenario", "studies": "built-in study"}


def read(source: str | Path, shelf: str = "scenarios") -> Document:
    """Read a file, or the built-in scenario (or what else the shelf holds) of that name."""
    path = Path(source)
    if is_file(path):
        return read_yaml(path)
    in_place = path.suffix in _ENDINGS and path.parent in (Path(), Path("scenarios"))
    name = path.stem if in_place else str(source)
    if name in library.names(shelf):
        return read_yaml(library.find(shelf, name))
    if exists(path):
        raise InputError([Problem(str(path), why_not(path))])
    nearest = unknown(_SHELVES[shelf], name, library.names(shelf))
    raise InputError(f'no file "{shortened(source)}", and {nearest}')


def extend(document: Document, seen: tuple[str, ...] = ()) -> Document:
    """Return a scenario merged over what it `extends`, and that over what it extends; `seen` are the files so far."""
    data = dict(document.data)
    if "extends" not in data:
        return document
    parent = data.pop("extends")
    where = f"{document.place(('extends',))}: extends"
    path = _parent(document.file, parent, where)
    chain = (*seen, str(Path(document.file).resolve()))
    if str(path.resolve()) in chain:
        names = " -> ".join(Path(file).name for file in (*chain, str(path.resolve())))
        raise InputError([Problem(where, f"goes round in a circle: {names}; leave one of them out")])
    base = read_yaml(path)
    if not isinstance(base.data, Mapping):
        raise InputError([Problem(str(base.place(())), "a scenario is a mapping that starts with a name")])
    base = extend(base, chain)
    child = {key: place for key, place in document.places.items() if key[:1] != ("extends",)}
    return Document(merge(base.data, data), {**base.places, **child}, document.file)


def _parent(file: str, named: object, where: str) -> Path:
    """Return the file that `extends: named` means in `file`."""
    if not isinstance(named, str):
        raise InputError([Problem(where, "wants one file or the name of a built-in scenario")])
    beside = Path(file).parent / named
    if is_file(beside):
        return beside
    if named in library.names("scenarios"):
        return library.find("scenarios", named)
    if exists(beside):
        raise InputError([Problem(where, f'"{shortened(named)}" {why_not(beside)}')])
    nearest = unknown("built-in scenario", named, library.names("scenarios"))
    raise InputError([Problem(where, f'no file "{shortened(named)}" beside this one, and {nearest}')])


def merge(base: Any, over: Any) -> Any:
    """Return `over` on top of `base`: mappings key by key, unless `over` says it is of another kind or base."""
    if isinstance(base, Mapping) and isinstance(over, Mapping) and not _another(base, over):
        return {
            **base,
            **{key: merge(base[key], value) if key in base else value for key, value in over.items()},
        }
    return over


def _another(base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    return any(key in over and over[key] != base.get(key) for key in ("kind", "base"))


def use(document: Document) -> Document:
    """Fill in each workload that says `use: name` from that built-in; what the scenario says itself prevails."""
    workloads = document.data.get("workloads")
    if not isinstance(workloads, list):
        return document
    filled: list[Any] = []
    places = dict(document.places)
    for index, workload in enumerate(workloads):
        if not isinstance(workload, Mapping) or "use" not in workload:
            filled.append(workload)
            continue
        name = workload["use"]
        here: Key = ("workloads", index)
        if name not in library.names("workloads"):
            what = unknown("workload", name, library.names("workloads"), "clustersim list workloads")
            raise InputError([Problem(f"{document.place((*here, 'use'))}: workloads.{index}.use", what)])
        base = read_yaml(library.find("workloads", name))
        filled.append({key: value for key, value in merge(base.data, workload).items() if key != "use"})
        for key, place in base.places.items():
            places.setdefault((*here, *key), place)
    return Document({**document.data, "workloads": filled}, places, document.file)
