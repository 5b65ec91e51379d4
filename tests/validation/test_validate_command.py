"""`clustersim validate serving`: what it prints and writes, and that it writes all or nothing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from measured import SMALL, cells, table

from clustersim.cli import cli
from clustersim.errors import InputError

FOUR = {"n", "median_ape_pct", "p90_ape_pct", "baseline_median_ape_pct"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "serving.csv"
    path.write_text(table(SMALL))
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["validate", "serving", *map(str, arguments)])


def test_it_prints_and_writes_the_errors(data: Path, tmp_path: Path) -> None:
    answer = invoke("--data", data, "--json", tmp_path / "errors.json", "--rows", tmp_path / "rows.csv")
    assert answer.exit_code == 0, answer.output
    for text in ("5 of 6 rows simulated (83.3%), 1 refused", "Overall", "By source", "By engine", "By GPU", "By model",
                 "another table", "tensorrt-llm", "H100-SXM-80GB", "Llama-3.1-8B", "baseline", "Qwen3.5: gated"):  # fmt: skip
        assert text in answer.output, text
    found: dict[str, Any] = json.loads((tmp_path / "errors.json").read_text())
    assert (found["rows_total"], found["rows_simulated"]) == (6, 5)
    metrics = {"tpot_ms", "ttft_ms", "output_tok_s_per_gpu", "output_tok_s_total", "e2e_ms_p99"}
    assert set(found["metrics"]) == metrics
    assert all(set(each) == FOUR and each["n"] == 1 for each in found["metrics"].values())
    assert set(found["groups"]) == {"source", "engine", "gpu", "model"}
    assert set(found["groups"]["source"]["another table"]) == {"output_tok_s_per_gpu"}
    assert sum(found["refused"].values()) == 1
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert [row["line"] for row in rows] == ["2", "3", "4", "5", "6", "7"]
    first = rows[0]
    error = float(first["predicted"]) / float(first["value"]) - 1
    assert float(first["error_frac"]) == pytest.approx(error)
    assert 100 * abs(error) == pytest.approx(found["metrics"]["tpot_ms"]["median_ape_pct"])
    assert rows[-1]["predicted"] == ""
    assert rows[-1]["refused"].startswith("Qwen3.5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["errors.json", "rows.csv", "serving.csv"]


def test_quality_filters(data: Path, tmp_path: Path) -> None:
    answer = invoke("--data", data, "--quality", "A,A-", "--json", tmp_path / "errors.json")
    assert answer.exit_code == 0, answer.output
    assert json.loads((tmp_path / "errors.json").read_text())["rows_total"] == 4


def test_the_same_table_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for name, jobs in (("a.json", 1), ("b.json", 2)):
        assert invoke("--data", data, "--json", tmp_path / name, "--jobs", jobs, "-q").exit_code == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_table_of_refused_rows_is_still_a_result(tmp_path: Path) -> None:
    data = tmp_path / "odd.csv"
    data.write_text(table([cells(model="Llama-9")]))
    answer = invoke("--data", data, "--json", tmp_path / "errors.json")
    assert answer.exit_code == 0, answer.output
    assert "0 of 1 rows simulated" in answer.output
    assert json.loads((tmp_path / "errors.json").read_text())["metrics"] == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--quality", "A+"), 'no quality "A+"'),
        (("--quality", ""), "no quality"),
        (("--json", "nowhere/errors.json"), 'there is no folder "nowhere"'),
        (("--json", "."), "is a folder"),
        (("--json", "serving.csv"), "is the table itself"),
        (("--json", "x", "--rows", "./x"), "given twice"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(
    arguments: tuple[str, ...], says: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    before = data.read_bytes()
    answer = invoke("--data", "serving.csv", *arguments)
    assert isinstance(answer.exception, InputError)
    assert says in str(answer.exception)
    assert [path.name for path in data.parent.iterdir()] == ["serving.csv"]
    assert data.read_bytes() == before


def test_an_interrupt_leaves_what_was_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clustersim.study.validation import predictions

    (tmp_path / "errors.json").write_text("old")
    done = []

    def interrupted(case: object) -> None:
        done.append(case)
        if len(done) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(predictions, "_simulated", interrupted)
    answer = invoke("--data", data, "--json", tmp_path / "errors.json")
    assert answer.exit_code == 1  # click's Abort, for which `main` exits with 130
    assert (tmp_path / "errors.json").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["errors.json", "serving.csv"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clustersim.report import validation_files, whole

    file = tmp_path / "errors.json"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        validation_files.write_whole({file: "new"})
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_help_gives_examples() -> None:
    for arguments in (["validate", "--help"], ["validate", "serving", "--help"]):
        assert "Examples:" in CliRunner().invoke(cli, arguments).output
