"""From a YAML file, or the name of a built-in scenario, to a validated Scenario.

In this order: read, and merge over what `extends:` names (sources); apply `--set` (settings); write `workload:` as a
list of one; fill workloads from the built-ins they `use` (sources); find the files it names (files); validate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from clustersim.errors import InputError, Problem
from clustersim.hardware import reference
from clustersim.scenario.files import find_files, own_models
from clustersim.scenario.plan import DeploymentPlan, plan
from clustersim.scenario.schema import Scenario
from clustersim.scenario.settings import apply_setting, replace
from clustersim.scenario.sources import extend, read, use
from clustersim.yaml_file import Document, problems_of


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
    document = _one_workload(extend(document))
    for setting in settings:
        document = apply_setting(document, setting, Scenario)
    document = find_files(use(own_models(reference.find_files(document, Scenario))))
    try:
        return Scenario.model_validate(document.data), document
    except ValidationError as error:
        raise InputError(problems_of(error, document, Scenario)) from None


def change(scenario: Scenario, changes: Sequence[tuple[str, object]]) -> Scenario:
    """Return a scenario with the values at some paths replaced; see Scenario.with_."""
    document = Document(scenario.model_dump(mode="json", exclude_unset=True), {}, scenario.name)
    for path, value in changes:
        document = replace(document, path, value, scenario.name, Scenario)
    return parse(document)


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
