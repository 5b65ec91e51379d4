"""Rows of measured serving results, read from a CSV."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from clustersim.errors import InputError, Problem, unknown
from clustersim.text_file import read_text

_MAX_FILE_BYTES = 64 * 1000 * 1000
#: Columns that may be left out; all others of `Row` are needed, further ones are passed over.
_OPTIONAL = frozenset(
    {"num_gpus", "ep", "dp", "kv_precision", "unit", "quality", "group_id", "core", "notes"}
)
#: The column that is a number, above zero: errors are relative to it.
_NUMBER = "value"
#: How well the settings of a row are known: all, all but a minor one, with an assumption, not well enough to simulate.
QUALITIES = ("A", "A-", "B", "C")


class RefusedError(Exception):
    """A row that is not simulated; its text is the reason, the same for every row of the kind."""


@dataclass(frozen=True)
class Row:
    """One measured value. What a table leaves empty is "", what it says in words stays as it is."""

    line: int
    """Line of the file, from 1."""
    source: str
    engine: str
    engine_version: str
    gpu: str
    num_gpus: str
    tp: str
    pp: str
    ep: str
    dp: str
    model: str
    precision: str
    kv_precision: str
    isl: str
    osl: str
    load_kind: str
    load_value: str
    metric: str
    value: float
    unit: str
    quality: str
    group_id: str
    core: str
    notes: str

    @property
    def run(self) -> tuple[str, ...]:
        """Everything but what was measured of it: rows of one run have it in common."""
        return tuple(str(getattr(self, column)) for column in _RUN)

    def count(self, column: str) -> int:
        """Return a column as a whole number of at least one ("8", "8.0"); raises RefusedError."""
        text: str = getattr(self, column)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 1 and number == int(number)):
            shown = f'"{text}"' if text else "empty"
            raise RefusedError(f"{column} is {shown}, not a number")
        return int(number)


COLUMNS = tuple(field.name for field in fields(Row) if field.name != "line")
_RUN = tuple(
    column for column in COLUMNS if column not in ("metric", "value", "unit", "quality", "group_id", "core")
)


def read_rows(path: Path, qualities: Collection[str] = ()) -> list[Row]:
    """Return the rows of a table, those of the given qualities alone if any are given.

    Raises InputError with every problem of the file, each with its line: a missing column, a row of another width, a
    value that is not a number above zero; and for an unknown quality, or if no row is left.
    """
    for quality in qualities:
        if quality not in QUALITIES:
            raise InputError([Problem("--quality", unknown("quality", quality, QUALITIES))])
    rows = _parse(read_text(path, _MAX_FILE_BYTES, "is this a table of measured results?"), str(path))
    if not rows:
        raise InputError([Problem(str(path), "has a header and no rows")])
    chosen = [row for row in rows if not qualities or row.quality in qualities]
    if not chosen:
        there = ", ".join(sorted({row.quality or "none" for row in rows}))
        raise InputError(
            [Problem(str(path), f"no row is of quality {' or '.join(qualities)}; there are: {there}")]
        )
    return chosen


def _parse(text: str, file: str) -> list[Row]:
    lines = _cells(text, file)
    header = next(lines, (1, ()))[1]
    problems = list(_header_problems(header, file))
    if problems:
        raise InputError(problems)
    rows: list[Row] = []
    for line, cells in lines:
        if len(cells) != len(header):
            problems.append(
                Problem(f"{file}:{line}", f"has {len(cells)} cells, but the header {len(header)}")
            )
            continue
        named = dict(zip(header, cells, strict=True))
        value = _value(named[_NUMBER])
        if value is None:
            problems.append(
                Problem(f"{file}:{line}: value", f'"{named[_NUMBER]}" is not a number above zero')
            )
            continue
        texts = {column: named.get(column, "").strip() for column in COLUMNS if column != _NUMBER}
        rows.append(Row(line=line, value=value, **texts))
    if problems:
        raise InputError(problems[:20])
    return rows


def _cells(text: str, file: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the cells of each row that is not blank, and the line it begins on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError([Problem(f"{file}:{line}", f"not valid CSV: {error}")]) from None
        if cells:
            yield line, [cell.strip() for cell in cells]


def _header_problems(header: Sequence[str], file: str) -> Iterator[Problem]:
    missing = [column for column in COLUMNS if column not in header and column not in _OPTIONAL]
    if missing:
        yield Problem(
            f"{file}:1", f"columns are missing: {', '.join(missing)}; needed: "
            f"{', '.join(column for column in COLUMNS if column not in _OPTIONAL)}",
        )  # fmt: skip
    for column, times in Counter(header).items():
        if times > 1:
            yield Problem(f"{file}:1", f'the column "{column}" is given {times} times')


def _value(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
