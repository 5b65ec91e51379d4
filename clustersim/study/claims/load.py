"""Claims from their files: built-in ones by name, or files of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from clustersim import library
from clustersim.errors import InputError, Problem
from clustersim.study.claims.claim import Claim, Simulate
from clustersim.yaml_file import Document, problems_of, read_yaml

if TYPE_CHECKING:
    from clustersim.scenario.schema import Scenario

_RUNS = ("check", "runs")


@dataclass(frozen=True)
class Loaded:
    """A claim with the scenarios of its runs."""

    claim: Claim
    scenarios: dict[str, Scenario]


def load_claims(names: Sequence[str] = ()) -> list[Loaded]:
    """Return claims by id ("A8", "a8") or file, all built-in ones for none; raises InputError with places."""
    return [_load(name) for name in names or _in_order(library.names("claims"))]


def _in_order(names: Sequence[str]) -> list[str]:
    """Return ids by letter, then number: A2 before A10."""
    return sorted(names, key=lambda name: (name[0], int(name[1:].rstrip("abcdefgh")), name))


def _load(name: str) -> Loaded:
    is_file = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_file else library.find("claims", name.upper()[:1] + name[1:].lower())
    document = read_yaml(path)
    try:
        claim = Claim.model_validate(document.data)
    except ValidationError as error:
        raise InputError(problems_of(error, document, Claim)) from None
    if not is_file and claim.id != path.stem:
        where = str(document.place(("id",)))
        raise InputError([Problem(where, f'"id" must be the name of the file, "{path.stem}"')])
    return Loaded(claim, _scenarios(claim, document))


def _scenarios(claim: Claim, document: Document) -> dict[str, Scenario]:
    from clustersim.scenario.load import parse_with_places
    from clustersim.scenario.plan import plan
    from clustersim.scenario.sources import read

    if not isinstance(claim.check, Simulate):
        return {}
    found = {}
    for name, run in claim.check.runs.items():
        at = (*_RUNS, name, "scenario")
        inner = read(run.scenario) if isinstance(run.scenario, str) else _inner(document, at)
        scenario, places = parse_with_places(inner)
        plan(scenario, places)
        found[name] = scenario
    return found


def _inner(document: Document, key: tuple[str, ...]) -> Document:
    """Return what stands under a key as a document of its own, with its places."""
    data = document.data
    for step in key:
        data = data[step]
    places = {each[len(key) :]: place for each, place in document.places.items() if each[: len(key)] == key}
    return Document(cast("object", data), places, document.file)
