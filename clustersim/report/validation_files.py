"""Files of a validation: its errors as JSON, its rows as CSV; each appears whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from clustersim.errors import InputError
from clustersim.report.folder import strict_json
from clustersim.report.whole import check_file, write_file
from clustersim.study.validation import ServingValidation
from clustersim.study.validation.rows import COLUMNS


def errors_json(found: ServingValidation) -> str:
    """Return the errors as strict JSON."""
    return strict_json(found.as_json())


def rows_csv(found: ServingValidation) -> str:
    """Return every row in the order of the table: its columns, the prediction and its errors, or why it was refused."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["line", *COLUMNS, "predicted", "error_frac", "baseline_error_frac", "refused"])
    lines: list[tuple[int, list[object]]] = [
        (each.row.line, [each.row, each.prediction.predicted, each.error_frac, each.baseline_error_frac, ""])
        for each in found.scored
    ]
    lines += [(each.row.line, [each.row, "", "", "", each.reason]) for each in found.refused]
    for line, (row, *rest) in sorted(lines, key=lambda item: item[0]):
        writer.writerow([line, *(getattr(row, column) for column in COLUMNS), *rest])
    return stream.getvalue()


def check_files(files: Sequence[Path], data: Path) -> None:
    """Refuse files that could not be written, before anything runs; raises InputError."""
    for file in files:
        check_file(file)
        if file.resolve() == data.resolve():
            raise InputError(f'"{file}" is the table itself; give another file')
    if len({file.resolve() for file in files}) < len(files):
        raise InputError(f'"{files[0]}" is given twice; give each its own file')


def write_whole(texts: Mapping[Path, str]) -> None:
    """Write files so that each holds all of its text or is as it was; raises InputError if one cannot be written."""
    for file, text in texts.items():
        write_file(file, text)
