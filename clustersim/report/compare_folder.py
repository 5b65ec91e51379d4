"""The folder that a comparison leaves behind: whole, or not at all. Its bytes follow from the scenarios and seeds."""

from __future__ import annotations

import hashlib
import json
import string
from pathlib import Path
from typing import Any

from clustersim.report.compare_html import html
from clustersim.report.folder import check_folder, file_name, resolved_yaml, strict_json, write_study
from clustersim.study.compare import Comparison
from clustersim.study.compare.entries import MOST, Entry

_FILES = ("compare.html", "comparison.json", "replications.parquet")
_SCENARIOS = tuple(f"{letter}.yaml" for letter in string.ascii_uppercase[:MOST])
_SLUG_LENGTH = 24


def default_folder(found: Comparison) -> Path:
    """Return out/compare-<first names>-<first six digits of a hash of scenarios, seeds and what was asked>."""
    names = "-".join(file_name(entry.name)[:_SLUG_LENGTH].strip("_") for entry in found.entries[:2])
    asked = [found.by, list(found.asked_metrics), str(found.target), list(found.seeds)]
    text = json.dumps([asked, *(resolved(entry) for entry in found.entries)], sort_keys=True)
    return Path("out") / f"compare-{names}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def resolved(entry: Entry) -> dict[str, Any]:
    """Return an entry's scenario as plain data, every figure in it."""
    return entry.scenario.model_dump(mode="json", exclude_unset=True)


def check(out: Path) -> None:
    """Refuse a folder whose replacement would lose what no comparison wrote; raises InputError."""
    check_folder(out, (*_FILES, *_SCENARIOS), "comparison.json")


def write(found: Comparison, out: Path) -> list[Path]:
    """Write compare.html, comparison.json, replications.parquet and each scenario into the folder `out`.

    Everything appears at once when the last file is complete; an earlier comparison there is replaced. Raises
    InputError if `out` is a file, holds anything else, or cannot be written.
    """
    check(out)
    texts = {"compare.html": html(found), "comparison.json": strict_json(found.as_json())}
    for entry in found.entries:
        name = f"{entry.letter}.yaml"
        texts[name] = resolved_yaml(resolved(entry), f"{name} --seed {found.seeds[0]}")
    write_study(out, texts, {"replications.parquet": found.replications})
    return [Path(out) / name for name in (*_FILES, *(f"{entry.letter}.yaml" for entry in found.entries))]
