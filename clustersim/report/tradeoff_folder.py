"""The folder that a tradeoff study leaves behind: whole, or not at all. Its bytes follow from the study and seed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from clustersim.report.folder import check_folder, file_name, resolved_yaml, strict_json, write_study
from clustersim.report.tradeoff_html import html
from clustersim.study.tradeoff import Tradeoff

_FILES = ("tradeoff.html", "tradeoff.json", "study.yaml", "cells.parquet")


def default_folder(found: Tradeoff) -> Path:
    """Return out/tradeoff-<name>-<first six digits of a hash of study and seed>."""
    text = json.dumps([found.study.model_dump(mode="json", exclude_unset=True), found.seed], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return Path("out") / f"tradeoff-{file_name(found.study.name)}-{digest}"


def check(out: Path) -> None:
    """Refuse a folder whose replacement would lose what no tradeoff study wrote; raises InputError."""
    check_folder(out, _FILES, "tradeoff.json")


def write(found: Tradeoff, out: Path) -> list[Path]:
    """Write tradeoff.html, tradeoff.json, study.yaml and cells.parquet into the folder `out`.

    Everything appears at once when the last file is complete; an earlier study there is replaced. Raises InputError
    if `out` is a file, holds anything else, or cannot be written.
    """
    check(out)
    study = found.study.model_dump(mode="json", exclude_unset=True)
    texts = {
        "tradeoff.html": html(found),
        "tradeoff.json": strict_json(found.as_json()),
        "study.yaml": resolved_yaml(study, f"study.yaml --seed {found.seed}"),
    }
    write_study(out, texts, {"cells.parquet": found.cells})
    return [Path(out) / name for name in _FILES]
