"""The scenarios that are compared, each with a letter and a name of its own."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from clustersim.errors import InputError
from clustersim.scenario.load import load_with_plans
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario
from clustersim.study.compare.settings import Setting, differing

#: More than these is a sweep, and its page no comparison.
MOST = 12


@dataclass(frozen=True)
class Entry:
    """One scenario of a comparison."""

    letter: str
    """A, B, C, ... in the order given."""
    name: str
    """Unlike that of every other entry."""
    scenario: Scenario


def entries(given: Sequence[Scenario | str | Path], names: Sequence[str] = ()) -> list[Entry]:
    """Return scenarios, files or built-in names as entries; raises InputError for fewer than two, or many."""
    if not 2 <= len(given) <= MOST:
        raise InputError(f"a comparison wants 2 to {MOST} scenarios, not {len(given)}")
    loaded = [each if isinstance(each, Scenario) else load_with_plans(each)[0] for each in given]
    for scenario in loaded:
        plan(scenario)
    called = list(names) or [_name(each) for each in given]
    found = [
        Entry(letter, name, scenario)
        for letter, name, scenario in zip(string.ascii_uppercase, called, loaded, strict=False)
    ]
    refuse_equal(found)
    return [found[0], *(_unlike(entry, found) for entry in found[1:])]


def refuse_equal(found: Sequence[Entry], why: str = "") -> None:
    """Raise InputError where two entries differ in nothing that a run depends on."""
    for a, b in combinations(found, 2):
        if not differing([a.scenario, b.scenario]):
            raise InputError(
                f'{a.letter} ("{a.name}") and {b.letter} ("{b.name}") are the same scenario{why}: '
                "change a setting of one of them"
            )


def _name(given: Scenario | str | Path) -> str:
    if isinstance(given, Scenario):
        return given.name
    path = Path(given)
    return path.stem if path.suffix in (".yaml", ".yml") else str(given)


def _unlike(entry: Entry, every: Sequence[Entry]) -> Entry:
    """Return the entry, named also by what it differs in where another has its name."""
    if sum(other.name == entry.name for other in every) == 1:
        return entry
    rows: list[Setting] = differing([every[0].scenario, entry.scenario])
    few = ", ".join(f"{row.path.rpartition('.')[2]} {row.values[1]}" for row in rows[:2]) or entry.letter
    return replace(entry, name=f"{entry.name}, {few}{', ...' if len(rows) > 2 else ''}")
