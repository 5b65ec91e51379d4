"""Traces broken at random, in every format: each is read, or refused in words; nothing else, and not for long."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guard import takes_or_refuses
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import broken, mutated
from trace_samples import CSVS, DOCUMENTS, LINES, TABLES, texts

from clustersim.randomness import stream
from clustersim.workload.lengths.joint_empirical import JointEmpirical
from clustersim.workload.traces import FORMATS, Trace, read_trace

TEXTS = texts()
CELLS = st.one_of(
    st.sampled_from((
        "", " ", "-1", "0", "1.5", "nan", "NaN", "inf", "-inf", "1e999", "1e18", "9" * 400, "0x10", "1_000", "1,5", '"', '"a\n1"', "None",
        "null", "true", "é", "\0", "2024-02-30", "0000-00-00", "9999-12-31 23:59:59.999999999", "1677-01-01", "2024-05-10T00:00:00+99:99",
        "2023-11-16 18:15:46.6805900", "1" * 30, "\ufeff", "=1+1", ";", "\t",
    )),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=6),
)  # fmt: skip


def reads(content: bytes, format: str = "auto") -> None:
    """Read a trace of these bytes; what is read is fit for a simulation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        path.write_bytes(content)
        with takes_or_refuses():
            for sort in (False, True):
                sound(read_trace(path, format, sort=sort))


def sound(trace: Trace) -> None:
    """Every row is a request that can be."""
    assert len(trace) > 0
    assert (trace.input_tokens >= 1).all()
    assert (trace.output_tokens > trace.thinking_tokens).all()
    assert (trace.thinking_tokens >= 0).all()
    assert trace.output_tokens.max() <= 10**9
    if trace.arrival_s is not None:
        assert np.isfinite(trace.arrival_s).all()
        assert (np.diff(trace.arrival_s) >= 0).all()
        assert trace.arrival_s[0] == 0
    if trace.hash_ids is not None:
        assert trace.hash_offsets is not None
        assert trace.hash_offsets[-1] == len(trace.hash_ids)
        assert len(trace.hash_offsets) == len(trace) + 1
    trace.summary()


@pytest.mark.parametrize("name", TEXTS)
def test_the_samples_are_sound(name: str, tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(TEXTS[name])
    assert read_trace(tmp_path / "trace", sort=True).format == name
    assert set(TEXTS) == set(FORMATS)


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(TEXTS)).flatmap(lambda name: broken(TEXTS[name])),
    st.sampled_from(("auto", *FORMATS)),
)
def test_bytes_of_traces_broken(content: bytes, format: str) -> None:
    reads(content, format)


@st.composite
def tables(draw: st.DrawFn, samples: dict[str, str]) -> bytes:
    """Return a CSV with some of its cells replaced, and rows dropped, repeated, widened."""
    rows = [line.split(",") for line in samples[draw(st.sampled_from(sorted(samples)))].splitlines()]
    for _ in range(draw(st.integers(1, 4))):
        row = draw(st.integers(0, len(rows) - 1))
        column = draw(st.integers(0, max(0, len(rows[row]) - 1)))
        change = draw(st.sampled_from(("cell", "cell", "cell", "drop", "repeat", "swap", "widen", "narrow")))
        if change == "cell" and rows[row]:
            rows[row][column] = draw(CELLS)
        elif change == "drop" and len(rows) > 1:
            del rows[row]
        elif change == "repeat":
            rows.append(list(rows[row]))
        elif change == "swap":
            rows[row], rows[-1] = rows[-1], rows[row]
        elif change == "widen":
            rows[row].insert(column, draw(CELLS))
        elif change == "narrow" and rows[row]:
            del rows[row][column]
    end = draw(st.sampled_from(("\n", "\r\n", "\r", "\n\n")))
    return end.join(",".join(row) for row in rows).encode("utf-8", errors="surrogatepass")


@settings(max_examples=300)
@given(tables(CSVS))
def test_cells_of_traces_broken(content: bytes) -> None:
    reads(content)


@st.composite
def objects(draw: st.DrawFn) -> tuple[bytes, str]:
    """Return a JSON trace with values of another sort in it, and the format that it had."""
    samples: dict[str, Any] = {**LINES, **DOCUMENTS}
    name = draw(st.sampled_from(sorted(samples)))
    changed = draw(mutated(samples[name], tuple(samples.values())))
    if name in LINES and isinstance(changed, list):
        text = "\n".join(json.dumps(row) for row in changed)
    else:
        text = json.dumps(changed)
    return text.encode("utf-8", errors="surrogatepass"), name


@settings(max_examples=300)
@given(objects(), st.booleans())
def test_values_of_traces_broken(content: tuple[bytes, str], named: bool) -> None:
    text, format = content
    reads(text, format if named else "auto")


@settings(max_examples=150)
@given(
    st.one_of(
        tables(TABLES), st.sampled_from(sorted(TABLES)).flatmap(lambda name: broken(TABLES[name].encode()))
    )
)
def test_tables_of_lengths_broken(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lengths.csv"
        path.write_bytes(content)
        with takes_or_refuses():
            drawn = JointEmpirical(file=str(path)).sample(stream(0, "lengths"), 100)
            assert all((column >= least).all() for column, least in zip(drawn, (1, 0, 1), strict=True))
