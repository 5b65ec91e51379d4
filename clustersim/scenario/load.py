"""From a YAML file, or the name of a built-in scenario, to a validated Scenario.

In this order: read; merge over what `extends:` names (mappings merge key by key, anything else replaces);
apply `--set` settings; write `workload:` as a list of one; fill workloads from the built-ins they `use`; validate.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clustersim import library
from clustersim.errors import InputError, Problem, unknown
from clustersim.hardware import reference
from clustersim.scenario.plan import DeploymentPlan, plan
from clustersim.scenario.schema import Scenario
from clustersim.yaml_file import Document, Key, Place, parse_yaml, problems_of, read_yaml


def load(source: str | Path, settings: Sequence[str] = ()) -> Scenario:
    """Return the scenario in a file, or the built-in of that name, with settings `a.b=value` applied.

    Raises InputError with every problem found, each with file, line and the mend.
    """
    return parse(read(source), settings)


def load_with_plans(
    source: str | Path, settings: Sequence[str] = ()
) -> tuple[Scenario, list[DeploymentPlan]]:
    """Return the scenario and a plan for every deployment; finds everything that can be wrong, with its line."""
    scenario, document = parse_with_places(read(source), settings)
    return scenario, plan(scenario, document)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of scenario files, `extends` and `workload` included."""
    schema = Scenario.model_json_schema()
    properties = schema["properties"]
    properties["extends"] = {
        "type": "string",
        "description": "A file beside this one, or a built-in scenario.",
    }
    properties["models"] = {"type": "object", "description": "Models by name: a config.json, or its content."}
    properties["workload"] = properties["workloads"]["items"]
    schema["$defs"]["Workload"]["properties"]["use"] = {
        "enum": list(library.names("workloads")),
        "description": "The built-in workload that these settings start from.",
    }
    schema["required"] = [name for name in schema["required"] if name != "workloads"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def parse(document: Document, settings: Sequence[str] = ()) -> Scenario:
    """Return the scenario in a document that was read; see `load`."""
    scenario, _ = parse_with_places(document, settings)
    return scenario


def parse_with_places(document: Document, settings: Sequence[str] = ()) -> tuple[Scenario, Document]:
    """Return the scenario, and its document after `extends`, `--set` and `use` with the places of all keys."""
    if not isinstance(document.data, Mapping):
        raise InputError(
            [Problem(str(document.place(())), "a scenario is a mapping that starts with a name")]
        )
    if "study" in document.data:
        place = str(document.place(("study",)))
        raise InputError([Problem(place, f"is a study: clustersim {document.data['study']} {document.file}")])
    document = _extend(document, ())
    document = _one_workload(document)
    for setting in settings:
        document = apply_setting(document, setting)
    document = _find_files(_use(_own_models(reference.find_files(document))))
    try:
        return Scenario.model_validate(document.data), document
    except ValidationError as error:
        raise InputError(problems_of(error, document, Scenario)) from None


def change(scenario: Scenario, changes: Sequence[tuple[str, object]]) -> Scenario:
    """Return a scenario with the values at some paths replaced; see Scenario.with_."""
    document = Document(scenario.model_dump(mode="json", exclude_unset=True), {}, scenario.name)
    for path, value in changes:
        document = _replace(document, path, value, scenario.name)
    return parse(document)


def read(source: str | Path, shelf: str = "scenarios") -> Document:
    """Read a file, or the built-in scenario (or what else the shelf holds) of that name."""
    path = Path(source)
    if path.is_file():
        return read_yaml(path)
    name = (
        path.stem
        if path.suffix in (".yaml", ".yml") and path.parent in (Path(), Path("scenarios"))
        else str(source)
    )
    if name in library.names(shelf):
        return read_yaml(library.find(shelf, name))
    what = {"scenarios": "built-in scenario", "studies": "built-in study"}[shelf]
    raise InputError(f'no file "{source}", and ' + unknown(what, name, library.names(shelf)))


def _extend(document: Document, seen: tuple[str, ...]) -> Document:
    data = dict(document.data)
    if "extends" not in data:
        return document
    parent = data.pop("extends")
    place = document.place(("extends",))
    if not isinstance(parent, str):
        raise InputError([Problem(f"{place}: extends", "wants one file or the name of a built-in scenario")])
    beside = Path(document.file).parent / parent
    path = beside if beside.is_file() else None
    if path is None:
        if parent not in library.names("scenarios"):
            what = f'no file "{parent}" beside this one, and ' + unknown(
                "built-in scenario", parent, library.names("scenarios")
            )
            raise InputError([Problem(f"{place}: extends", what)])
        path = library.find("scenarios", parent)
    chain = (*seen, str(Path(document.file).resolve()))
    if str(path.resolve()) in chain:
        names = " -> ".join(Path(file).name for file in (*chain, str(path.resolve())))
        raise InputError([Problem(f"{place}: extends", f"goes round in a circle: {names}")])
    base = read_yaml(path)
    if not isinstance(base.data, Mapping):
        raise InputError([Problem(str(base.place(())), "a scenario is a mapping that starts with a name")])
    base = _extend(base, chain)
    child = {key: place for key, place in document.places.items() if key[:1] != ("extends",)}
    return Document(_merge(base.data, data), {**base.places, **child}, document.file)


def _merge(base: Any, over: Any) -> Any:
    """Return `over` on top of `base`: mappings key by key, unless `over` says it is of another kind or base."""
    if isinstance(base, Mapping) and isinstance(over, Mapping) and not _another(base, over):
        return {
            **base,
            **{key: _merge(base[key], value) if key in base else value for key, value in over.items()},
        }
    return over


def _another(base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    return any(key in over and over[key] != base.get(key) for key in ("kind", "base"))


def _one_workload(document: Document) -> Document:
    data = dict(document.data)
    if "workload" not in data:
        return document
    if "workloads" in data:
        place = document.place(("workload",))
        raise InputError([Problem(f"{place}: workload", "give either workload (one) or workloads (a list)")])
    data["workloads"] = [data.pop("workload")]
    places = {
        (("workloads", 0, *key[1:]) if key[:1] == ("workload",) else key): place
        for key, place in document.places.items()
    }
    return Document(data, places, document.file)


def apply_setting(document: Document, setting: str) -> Document:
    """Apply `a.b.0.c=value`; list items by index or by their name, the value as YAML."""
    where = f"--set {setting}"
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise InputError([Problem(where, "write it like --set deployments.0.replicas=4")])
    value = parse_yaml(text if text.strip() else '""', where).data
    return _replace(document, path, value, where)


def _replace(document: Document, path: str, value: object, where: str) -> Document:
    steps = path.strip().split(".")
    if steps[0] == "workload":
        steps[:1] = ["workloads", "0"]
    try:
        data, key = _put(document.data, steps, value, ())
    except KeyError as error:
        raise InputError([Problem(where, error.args[0])]) from None
    places = {known: place for known, place in document.places.items() if known[: len(key)] != key}
    return Document(data, {**places, key: Place(where, 0)}, document.file)


def _put(node: Any, steps: Sequence[str], value: Any, key: Key) -> tuple[Any, Key]:
    """Return a copy of `node` with the value at `steps`, and the full key at which it now stands."""
    if not steps:
        return value, key
    step, rest = steps[0], steps[1:]
    if isinstance(node, list):
        index = _index(node, step)
        inner, full = _put(node[index], rest, value, (*key, index))
        return [*node[:index], inner, *node[index + 1 :]], full
    if node is None:
        node = {}
    if isinstance(node, str) and key and key[-1] in _PARTS:
        node = {"kind": node}
    elif isinstance(node, str) and key and key[-1] in reference.KEYS:
        node = {"base": node}  # a variation on the thing of that name
    if not isinstance(node, Mapping):
        raise KeyError(f'"{".".join(map(str, key))}" is {node!r}, which has no "{step}"')
    inner, full = _put(node.get(step), rest, value, (*key, step))
    return {**node, step: inner}, full


#: Keys whose bare word is a kind.
_PARTS = frozenset({"network", "price", "scheduler", "router", "warm_up", "arrivals", "lengths", "strategy"})


def _index(items: list[Any], step: str) -> int:
    names = [str(item.get("name", "")) for item in items if isinstance(item, Mapping)]
    if step.isdigit() and int(step) < len(items):
        return int(step)
    if step in names:
        return names.index(step)
    near = difflib.get_close_matches(step, names, n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    raise KeyError(
        f'no item "{step}" in a list of {len(items)} (0 to {len(items) - 1}: {", ".join(names)}).{hint}'
    )


def _own_models(document: Document) -> Document:
    """Put the scenario's own `models` (name -> config.json, built-in name or config) where deployments name them."""
    data = dict(document.data)
    models = data.pop("models", None)
    if models is None:
        return document
    place = document.place(("models",))
    if not isinstance(models, Mapping):
        raise InputError(
            [Problem(f"{place}: models", "wants a name for each model: a config.json or a config")]
        )
    used = set()
    deployments = data.get("deployments")
    if isinstance(deployments, list):
        data["deployments"] = [dict(each) if isinstance(each, Mapping) else each for each in deployments]
        for each in data["deployments"]:
            if isinstance(each, dict) and isinstance(each.get("model"), str) and each["model"] in models:
                used.add(each["model"])
                each["model"] = _beside(models[each["model"]], place)
    unused = [name for name in models if name not in used]
    if unused:
        where = document.place(("models", unused[0]))
        raise InputError([Problem(f"{where}: models.{unused[0]}", "no deployment uses this model")])
    return Document(data, document.places, document.file)


def _beside(given: object, place: Place) -> object:
    """Return the path of a file that lies beside the one that names it; anything else as it is."""
    path = Path(place.file).parent / given if isinstance(given, str) else None
    return str(path.resolve()) if path is not None and path.exists() else given


def _use(document: Document) -> Document:
    """Fill in each workload that says `use: name` from that built-in; what the scenario says itself prevails."""
    workloads = document.data.get("workloads")
    if not isinstance(workloads, list):
        return document
    filled: list[Any] = []
    places = dict(document.places)
    for index, workload in enumerate(workloads):
        if not isinstance(workload, Mapping) or not isinstance(workload.get("use"), str):
            filled.append(workload)
            continue
        name = workload["use"]
        here: Key = ("workloads", index)
        if name not in library.names("workloads"):
            what = unknown("workload", name, library.names("workloads"), "clustersim list workloads")
            raise InputError([Problem(f"{document.place((*here, 'use'))}: workloads.{index}.use", what)])
        base = read_yaml(library.find("workloads", name))
        filled.append({key: value for key, value in _merge(base.data, workload).items() if key != "use"})
        for key, place in base.places.items():
            places.setdefault((*here, *key), place)
    return Document({**document.data, "workloads": filled}, places, document.file)


#: Where scenarios name other files: a relative path is looked for beside the file that says it, then from here.
_FILES: tuple[tuple[str, ...], ...] = (("trace", "path"), ("lengths", "file"))


def _find_files(document: Document) -> Document:
    """Make the paths of traces and tables absolute, so that a resolved scenario runs from anywhere."""
    data = document.data
    for index, workload in enumerate(data.get("workloads") or []):
        for steps in _FILES:
            holder = workload.get(steps[0]) if isinstance(workload, Mapping) else None
            given = holder.get(steps[1]) if isinstance(holder, Mapping) else None
            if not isinstance(given, str):
                continue
            key: Key = ("workloads", index, *steps)
            place = document.place(key)
            beside = Path(place.file).parent / given
            path = beside if place.line and beside.is_file() else Path(given)
            if not path.is_file():
                dotted = ".".join(map(str, key))
                raise InputError([Problem(f"{place}: {dotted}", f'no file "{given}"')])
            data, _ = _put(data, [str(step) for step in key], str(path.resolve()), ())
    return Document(data, document.places, document.file)
