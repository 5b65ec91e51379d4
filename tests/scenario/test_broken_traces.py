"""Traces and tables of lengths that cannot be used, as the program meets them: by `check` and by `run`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from refusing import GOOD, refusal

HEAD = "arrival_s,input_tokens,output_tokens\n"
ROWS = HEAD + "0,10,5\n1.5,20,6\n3,30,7\n"
MOONCAKE = '{"timestamp": 0, "input_length": 10, "output_length": 5}\n'
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
REPLAY = GOOD[: GOOD.index("    arrivals")] + "    trace: {path: trace}\n"


class Case(NamedTuple):
    """What the file holds, how the answer begins after the file's name, and what it says."""

    content: str | bytes
    place: str
    says: str


CASES = {
    "empty": Case("", ":", "is empty"),
    "only line ends": Case("\n\n\n", ":", "is empty"),
    "a header alone": Case(HEAD, ":", "holds no request"),
    "a header that is cut": Case("arrival_s,input_tok", ":", "no known trace format"),
    "binary": Case(bytes(range(256)) * 8, ":", "no known trace format"),
    "a parquet file": Case(b"PAR1\x15\x04\x15\x00", ":", "no known trace format"),
    "a gzip file": Case(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", ":", "no known trace format"),
    "words": Case("hello\nworld\n", ":", "no known trace format"),
    "HTML": Case("<html>not found</html>", ":", "no known trace format"),
    "JSON of something else": Case('{"a": 1}', ":", "no known trace format"),
    "a row that is cut": Case(ROWS + "4,40", ":5:", "2 cells where the header has 3"),
    "a row that is too long": Case(ROWS + "4,40,5,6\n", ":5:", "4 cells where the header has 3"),
    "a word for a number": Case(ROWS.replace("20", "many"), ":3:", 'input_tokens is "many"'),
    "nothing for a number": Case(ROWS.replace("20", ""), ":3:", 'input_tokens is ""'),
    "nan tokens": Case(ROWS.replace("20", "nan"), ":3:", "nan input tokens"),
    "infinite tokens": Case(ROWS.replace("20", "inf"), ":3:", "inf input tokens"),
    "a negative number of tokens": Case(ROWS.replace("20", "-20"), ":3:", "-20 input tokens"),
    "half a token": Case(ROWS.replace("20", "20.5"), ":3:", "20.5 input tokens; a whole number"),
    "no output at all": Case(ROWS.replace(",6", ",0"), ":3:", "0 output tokens"),
    "a quadrillion tokens": Case(ROWS.replace("20", "1e15"), ":3:", "up to 1e+09"),
    "nan for a time": Case(ROWS.replace("1.5", "nan"), ":3:", "not a finite number"),
    "a time without end": Case(ROWS.replace("1.5", "inf"), ":3:", "not a finite number"),
    "a time that no clock shows": Case(ROWS.replace("3,30", "1e300,30"), ":4:", "1e12"),
    "unsorted": Case(ROWS.replace("1.5", "9"), ":4:", "set `sort: true`"),
    "all of it thinking": Case(
        "arrival_s,input_tokens,output_tokens,thinking_tokens\n0,10,5,5\n", ":2:", "the answer needs one"
    ),
    "not UTF-8 further down": Case(ROWS.encode() + b"4,\xff,5\n", ":5:", "input_tokens is"),
    "a field of 200 kB": Case(ROWS + f"4,{'9' * 200_000},x\n", ":6:", "field larger"),
    "a quote left open": Case(ROWS + '4,"40,5\n', ":5:", "cells where the header has 3"),
    "a column named twice": Case("arrival_s,input_tokens,input_tokens,output_tokens\n0,1,2,3\n", ":", "input_tokens"),
    "a date that is none": Case(AZURE + "2024-13-10 00:00:00,5,5\n", ":3:", 'TIMESTAMP is "2024-13-10'),
    "a date of the year 1": Case(AZURE + "0001-01-01 00:00:00,5,5\n", ":3:", "TIMESTAMP"),
    "only failures": Case(BURST + "5,ChatGPT,472,0,490,x\n", ":", "dropped: 1 failed requests"),
    "JSON that is cut": Case(MOONCAKE + MOONCAKE[:-20], ":2:", "not valid JSON"),
    "JSON with a key missing": Case(MOONCAKE + '{"timestamp": 1, "input_length": 10}\n', ":2:", '"output_length" is missing'),
    "JSON with text for a number": Case(MOONCAKE + MOONCAKE.replace("5", '"5"'), ":2:", 'output_length is "5"'),
    "JSON with a truth value for a number": Case(MOONCAKE + MOONCAKE.replace("5", "true"), ":2:", "output_length is true"),
    "JSON with NaN": Case(MOONCAKE + MOONCAKE.replace("5", "NaN"), ":2:", "nan output tokens"),
    "JSON with a number of 400 digits": Case(MOONCAKE + MOONCAKE.replace("5", "9" * 400), ":2:", "too large"),
    "JSON with a number of 5,000 digits": Case(MOONCAKE + MOONCAKE.replace("5", "9" * 5000), ":2:", "not valid JSON"),
    "JSON nested deeply": Case(MOONCAKE + MOONCAKE.replace("5", "[" * 20_000), ":2:", "nested too deeply"),
    "JSON that is a list": Case(MOONCAKE + "[1, 2]\n", ":2:", "no JSON object"),
    "JSON that is not UTF-8": Case(MOONCAKE.encode() + b'{"timestamp": "\xff"}\n', ":2:", "not UTF-8"),
    "prefix blocks that are text": Case(MOONCAKE.replace("}", ', "hash_ids": ["a"]}'), ":1:", "hash_ids is no list of integers"),
    "prefix blocks of 65 bits": Case(MOONCAKE.replace("}", f', "hash_ids": [{2**64}]}}'), ":1:", "64 bits"),
    "conversations without turns": Case(json.dumps([{"conversations": 5}]), ": conversation 1:", 'no list "conversations"'),
    "conversations with no text": Case(json.dumps([{"conversations": [{"value": 1}, {"value": 2}]}]), ": conversation 1:", "text"),
    "conversations with NaN tokens": Case(
        '[{"conversations": [{"value": "a", "tokens": NaN}, {"value": "b", "tokens": NaN}]}]', ": conversation 1:", "nan input tokens"
    ),
    "a time before clocks": Case(ROWS.replace("1.5", "-1e13"), ":3:", "1e12"),
    "prompts without times": Case('{"prompt": "a", "output_tokens": 5}\n', ":", "say when its requests come"),
    "a benchmark without lengths": Case('{"request_throughput": 2.0}', ":", "--save-detailed"),
    "a benchmark with lengths of two sorts": Case('{"input_lens": [1, 2], "output_lens": [1]}', ":", "2 input_lens and 1 output_lens"),
    "a benchmark nested deeply": Case('{"input_lens": ' + "[" * 20_000, ":1:", "nested too deeply"),
}  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(REPLAY)
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_a_broken_trace(
    name: str, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, place, says = CASES[name]
    (mine / "trace").write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in ("check", "run"):
        line = refusal([command, "mine.yaml"], capsys, monkeypatch)
        assert line.removeprefix("mine.yaml: ").startswith(f"{mine / 'trace'}{place}"), line
        assert says in line, line


TABLES = {
    "an empty table": Case("", ":1:", "the header must be"),
    "another header": Case("a,b,c\n1,2,3\n", ":1:", "the header must be"),
    "no row": Case("input,thinking,answer\n", ":1:", "no row"),
    "a short row": Case("input,thinking,answer\n1,2\n", ":2:", "not 3 numbers"),
    "words": Case("input,thinking,answer\n1,2,x\n", ":2:", "not 3 numbers"),
    "infinite": Case("input,thinking,answer\n1,inf,3\n", ":2:", "not finite"),
    "no answer": Case("input,thinking,answer\n1,0,0\n", ":2:", "one token at least"),
    "half a token": Case("input,thinking,answer\n1,0.5,1\n", ":2:", "whole numbers"),
    "no weight": Case("input,thinking,answer,weight\n1,0,1,0\n", ":1:", "no row with a weight"),
    "a negative weight": Case("input,thinking,answer,weight\n1,0,1,-1\n", ":2:", "weight"),
    "not UTF-8": Case(b"input,thinking,answer\n1,\xff,1\n", ":2:", "not UTF-8"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_broken_table_of_lengths(
    name: str, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, place, says = TABLES[name]
    Path("mine.yaml").write_text(
        GOOD.replace("{kind: fixed, input: 100, answer: 20}", "{kind: joint_empirical, file: table.csv}")
    )
    (mine / "table.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in ("check", "run"):
        line = refusal([command, "mine.yaml"], capsys, monkeypatch)
        assert line.startswith(f"{mine / 'table.csv'}{place}"), line
        assert says in line, line


def test_a_trace_that_is_larger_than_the_machine(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (mine / "trace").open("w") as file:
        file.write(ROWS)
    os.truncate(mine / "trace", 10**13)  # sparse: it takes no room
    line = refusal(["check", "mine.yaml"], capsys, monkeypatch)
    assert "trace: is too large: 10,000,000 MB where 8,000 MB can be read; cut it" in line


@pytest.mark.parametrize("what", ["folder", "pipe", "loop", "device", "nothing", "long", "zero byte"])
def test_what_is_no_file(
    what: str, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is opened that would make one wait."""
    path, says = "trace", "trace.path"
    if what == "folder":
        (mine / "trace").mkdir()
        says = "is a folder"
    elif what == "pipe":
        os.mkfifo(mine / "trace")
        says = "is a pipe or a device"
    elif what == "loop":
        (mine / "trace").symlink_to("trace")
    elif what == "device":
        path, says = "/dev/zero", "is a pipe or a device"
    elif what == "long":
        path, says = "x" * 4000, 'no file "xxx'
    elif what == "zero byte":
        path, says = '"a\\0b"', "no file"
    Path("mine.yaml").write_text(REPLAY.replace("path: trace", f"path: {path}"))
    line = refusal(["run", "mine.yaml"], capsys, monkeypatch)
    assert line.startswith("mine.yaml:13: workloads.0.trace.path: "), line
    assert says in line, line
