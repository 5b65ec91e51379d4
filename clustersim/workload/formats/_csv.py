"""CSV by columns: fast where the file is sound, with the line where it is not."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clustersim.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_HEADER = 65536
_SEEN = 60  # characters of a cell that errors show


def header(head: str) -> list[str]:
    """Return the column names in the first line of `head`."""
    line = head.split("\n", 1)[0]
    return [name.strip().strip('"') for name in line.split(",")]


def read_columns(path: Path, numbers: list[str], texts: list[str]) -> pd.DataFrame:
    """Return the columns named, `numbers` as float64 without NaN; raises InputError with file:line."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    with path.open(encoding="utf-8-sig", errors="replace") as file:
        names = header(file.readline(_LONGEST_HEADER))
    if twice := [name for name in (*numbers, *texts) if names.count(name) > 1]:
        raise InputError([Problem(f"{path}:1", f"has two columns {twice[0]}; leave one of them")])
    kinds = {**dict.fromkeys(numbers, pa.float64()), **dict.fromkeys(texts, pa.string())}
    try:
        table = arrow.read_csv(
            path,
            parse_options=arrow.ParseOptions(newlines_in_values=False),
            convert_options=arrow.ConvertOptions(
                include_columns=list(kinds), column_types=kinds, null_values=[""], strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, KeyError) as error:
        refuse_malformed(path, dict.fromkeys(numbers, float))
        raise InputError([Problem(str(path), f"is not a CSV with {', '.join(kinds)}: {error}")]) from None
    if any(table[name].null_count for name in numbers):
        refuse_malformed(path, dict.fromkeys(numbers, float))
    frame: pd.DataFrame = table.to_pandas()
    return frame


def refuse_malformed(path: Path, parsers: dict[str, Callable[[str], object]]) -> None:
    """Raise InputError for the first row that has too few or many cells, or one that its parser refuses."""
    rows = _rows(path)
    _, names = next(rows, (1, []))
    if absent := [name for name in parsers if name not in names]:
        raise InputError([Problem(f"{path}:1", f"has no column {', '.join(absent)}")])
    for line, row in rows:
        if len(row) != len(names):
            what = f"{len(row)} cells where the header has {len(names)}"
            raise InputError([Problem(f"{path}:{line}", what)])
        for name, parse in parsers.items():
            cell = row[names.index(name)]
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
        try:
            for row in reader:
                if row:
                    yield reader.line_num, [cell.strip() for cell in row]
        except csv.Error as error:
            raise InputError([Problem(f"{path}:{reader.line_num + 1}", f"not valid CSV: {error}")]) from None
