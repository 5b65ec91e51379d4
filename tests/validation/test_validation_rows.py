"""Reading a table of measured results: what it means, and every way in which it may be wrong, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from measured import SMALL, cells, row, table

from clustersim.errors import InputError
from clustersim.study.validation.rows import COLUMNS, RefusedError, read_rows


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_rows_have_their_lines_and_texts(tmp_path: Path) -> None:
    text = table([cells(notes='two\nlines, and "quotes"'), cells(value="1e3")])
    first, second = read_rows(write(tmp_path, "\ufeff" + text))
    assert (first.line, second.line) == (2, 4)
    assert first.notes == 'two\nlines, and "quotes"'
    assert second.value == 1000.0


def test_columns_that_say_less_may_be_left_out_and_others_added(tmp_path: Path) -> None:
    columns = [
        column for column in COLUMNS if column not in ("ep", "dp", "notes", "core", "unit", "num_gpus")
    ]
    [only] = read_rows(write(tmp_path, table([{**cells(), "url": "x"}], [*columns, "url"])))
    assert (only.ep, only.notes) == ("", "")


def test_qualities_are_filtered(tmp_path: Path) -> None:
    path = write(tmp_path, table(SMALL))
    assert {row.quality for row in read_rows(path, ("A", "A-"))} == {"A", "A-"}
    assert len(read_rows(path)) == len(SMALL)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "table.csv:1: columns are missing: source, engine"),
        ("\n\n", "columns are missing"),
        (table([]), "has a header and no rows"),
        (table([cells()], [c for c in COLUMNS if c != "metric"]), "columns are missing: metric"),
        (table([cells()], [*COLUMNS, "gpu"]), 'table.csv:1: the column "gpu" is given 2 times'),
        (table([cells(), cells(value="fast")]), 'table.csv:3: value: "fast" is not a number above zero'),
        (table([cells(value="nan")]), 'table.csv:2: value: "nan" is not'),
        (table([cells(value="inf")]), 'table.csv:2: value: "inf" is not'),
        (table([cells(value="0")]), 'table.csv:2: value: "0" is not'),
        (table([cells(value="-3")]), 'table.csv:2: value: "-3" is not'),
        (table([cells()]) + "a,b\n", "table.csv:3: has 2 cells, but the header 23"),
        (table([cells()]) + '"never closed', "table.csv:3: not valid CSV"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(text: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read_rows(write(tmp_path, text))
    assert says in str(refused.value)


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, table([cells(value="x"), cells(), cells(value="y")]))
    with pytest.raises(InputError) as refused:
        read_rows(path)
    assert [problem.where for problem in refused.value.problems] == [f"{path}:2: value", f"{path}:4: value"]


def test_a_missing_file_or_quality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_rows(tmp_path / "none.csv")
    path = write(tmp_path, table([cells(quality="B")]))
    with pytest.raises(InputError, match='no quality "A\\+"'):
        read_rows(path, ("A+",))
    with pytest.raises(InputError, match="no row is of quality A or A-; there are: B"):
        read_rows(path, ("A", "A-"))


_AFTER_THE_HEADER = st.text(max_size=300).map(lambda text: (table([]) + text).encode())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.one_of(st.binary(max_size=300), _AFTER_THE_HEADER))
@example(content=(table([]) + "\x00" * 30).encode())
@example(content=(table([]) + "x" * 200_000 + ",").encode())
def test_any_bytes_are_rows_or_refused(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    try:
        rows = read_rows(path)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert rows
    assert not refusal or str(path) in refusal


@pytest.mark.parametrize("text", ["", "P/D", "0", "1.5", "nan", "1e400", "-1"])
def test_a_count_is_a_whole_number_of_at_least_one(text: str) -> None:
    with pytest.raises(RefusedError, match="tp is"):
        row(tp=text).count("tp")
    assert row(tp="8.0").count("tp") == 8
