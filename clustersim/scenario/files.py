"""The files that a scenario names: models of its own, traces, tables of lengths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clustersim.errors import InputError, Problem, shortened
from clustersim.scenario.settings import put
from clustersim.text_file import exists, is_file, why_not
from clustersim.yaml_file import Document, Key, Place

#: Where workloads name files: a relative path is looked for beside the file that says it, then from here.
_FILES: tuple[tuple[str, ...], ...] = (("trace", "path"), ("lengths", "file"))


def own_models(document: Document) -> Document:
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
            drafts = each.get("speculation") if isinstance(each, dict) else None
            if isinstance(drafts, Mapping):
                drafts = each["speculation"] = dict(drafts)
            for holder in (each, drafts):
                if (
                    isinstance(holder, dict)
                    and isinstance(holder.get("model"), str)
                    and holder["model"] in models
                ):
                    used.add(holder["model"])
                    holder["model"] = _beside(models[holder["model"]], place)
    unused = [name for name in models if name not in used]
    if unused:
        where = document.place(("models", unused[0]))
        raise InputError([Problem(f"{where}: models.{unused[0]}", "no deployment uses this model")])
    return Document(data, document.places, document.file)


def _beside(given: object, place: Place) -> object:
    """Return the path of a file that lies beside the one that names it; anything else as it is."""
    path = Path(place.file).parent / given if isinstance(given, str) else None
    return str(path.resolve()) if path is not None and exists(path) else given


def find_files(document: Document) -> Document:
    """Make the paths of traces and tables absolute, so that a resolved scenario runs from anywhere."""
    data = document.data
    workloads = data.get("workloads")
    for index, workload in enumerate(workloads if isinstance(workloads, list) else ()):
        for steps in _FILES:
            holder = workload.get(steps[0]) if isinstance(workload, Mapping) else None
            given = holder.get(steps[1]) if isinstance(holder, Mapping) else None
            if isinstance(given, str):
                key: Key = ("workloads", index, *steps)
                data = put(data, key, _found(given, document.place(key), ".".join(map(str, key))))
    return Document(data, document.places, document.file)


def _found(given: str, place: Place, dotted: str) -> str:
    """Return the absolute path of a file; raises InputError, with what is there instead."""
    beside = Path(place.file).parent / given
    path = beside if place.line and is_file(beside) else Path(given)
    if is_file(path):
        return str(path.resolve())
    there = [each for each in (beside, path) if exists(each)]
    what = f'"{shortened(given)}" {why_not(there[0])}' if there else f'no file "{shortened(given)}"'
    raise InputError([Problem(f"{place}: {dotted}", what)])
