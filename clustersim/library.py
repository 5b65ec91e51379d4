"""Where the built-in specs and scenarios lie, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from clustersim.errors import InputError, unknown

_PACKAGE = Path(__file__).resolve().parent
ROOT = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent

#: Shelf -> (folder, file suffix). A file's stem is its name.
SHELVES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "accelerators": ("hardware_specs/accelerators", ".yaml"),
        "links": ("hardware_specs/links", ".yaml"),
        "nodes": ("hardware_specs/nodes", ".yaml"),
        "sites": ("hardware_specs/sites", ".yaml"),
        "engines": ("hardware_specs/engines", ".yaml"),
        "models": ("scenarios/models", ".json"),
        "workloads": ("scenarios/workloads", ".yaml"),
        "scenarios": ("scenarios", ".yaml"),
        "studies": ("scenarios", ".yaml"),
        "benchmarks": ("scenarios/benchmarks", ".yaml"),
        "trained_models": ("scenarios/trained_models", ".yaml"),
        "claims": ("scenarios/claims", ".yaml"),
    }
)


@cache
def names(shelf: str) -> tuple[str, ...]:
    """Return the names on a shelf ("accelerators", "models", ...), sorted.

    Scenarios and studies lie side by side: a study has a line that begins with `study:`.
    """
    folder, suffix = SHELVES[shelf]
    paths = sorted((ROOT / folder).glob(f"*{suffix}"))
    if shelf in ("scenarios", "studies"):
        paths = [path for path in paths if _is_study(path) == (shelf == "studies")]
    return tuple(path.stem for path in paths)


def _is_study(path: Path) -> bool:
    return any(line.startswith("study:") for line in path.read_text(encoding="utf-8").splitlines())


def find(shelf: str, name: str) -> Path:
    """Return the file of a built-in spec; raises InputError with the nearest names."""
    folder, suffix = SHELVES[shelf]
    if name not in names(shelf):
        raise InputError(unknown(shelf.removesuffix("s"), name, names(shelf), f"clustersim list {shelf}"))
    return ROOT / folder / f"{name}{suffix}"
