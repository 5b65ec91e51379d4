"""CSV by columns: fast where the file is sound, with the line where it is not."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clustersim.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

#: Columns that are numbers; all others asked for are kept as text.
_SEEN = 60


def header(head: str) -> list[str]:
    """Return the column names in the first line of `head`."""
    line = head.split("\n", 1)[0]
    return [name.strip().strip('"') for name in line.split(",")]


def read_columns(path: Path, numbers: list[str], texts: list[str]) -> pd.DataFrame:
    """Return the columns named, `numbers` as float64 without NaN; raises InputError with file:line."""
    import pandas as pd

    kinds = {**dict.fromkeys(numbers, "float64"), **dict.fromkeys(texts, "str")}
    try:
        frame = pd.read_csv(
            path, usecols=list(kinds), dtype=kinds, encoding="utf-8-sig", skipinitialspace=True,
            keep_default_na=False, na_values={name: [""] for name in numbers},
        )  # fmt: skip
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    except ValueError as error:  # pandas' ParserError and UnicodeDecodeError too
        refuse_malformed(path, dict.fromkeys(numbers, float))
        raise InputError([Problem(str(path), f"is not a CSV with {', '.join(kinds)}: {error}")]) from None
    if frame[numbers].isna().any(axis=None):
        refuse_malformed(path, dict.fromkeys(numbers, float))
    return frame


def refuse_malformed(path: Path, parsers: dict[str, Callable[[str], object]]) -> None:
    """Raise InputError for the first row that has too few or many cells, or one that its parser refuses."""
    rows = _rows(path)
    _, names = next(rows)
    for line, row in rows:
        if len(row) != len(names):
            what = f"{len(row)} cells where the header has {len(names)}"
            raise InputError([Problem(f"{path}:{line}", what)])
        for name, parse in parsers.items():
            cell = row[names.index(name)] if name in names else ""
            try:
                parse(cell)
            except ValueError:
                what = f'{name} is "{cell[:_SEEN]}"'
                raise InputError([Problem(f"{path}:{line}", what)]) from None


def place_of(path: Path, index: int) -> str:
    """Return "file:line" of data row `index` (from 0)."""
    rows = _rows(path)
    next(rows)
    for number, (line, _) in enumerate(rows):
        if number == index:
            return f"{path}:{line}"
    return str(path)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of every row that is not blank, the header first."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        for row in reader:
            if row:
                yield reader.line_num, [cell.strip() for cell in row]
