"""The result folder: what it holds, that it reproduces the run, and that it is there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clustersim.errors import InputError
from clustersim.report import folder, whole
from clustersim.report.folder import FILES, check_folder, default_folder, plain, scenario_yaml, write
from clustersim.results.result import Result
from clustersim.scenario.load import load
from clustersim.simulation import simulate

#: What a run without tasks writes.
PLAIN = [name for name in FILES if name != "tasks.parquet"]


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def strict(path: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(path.read_text(), parse_constant=refuse_constant)
    return loaded


def test_everything_is_written(stable, tmp_path):
    paths = write(stable, tmp_path / "out")
    assert [path.name for path in paths] == PLAIN
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(PLAIN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_run_of_tasks_writes_them_too(tasked, tmp_path):
    paths = write(tasked, tmp_path / "out")
    assert [path.name for path in paths] == list(FILES)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "tasks.parquet"), tasked.tasks)
    assert strict(tmp_path / "out" / "result.json")["tasks"] == plain(tasked["tasks"])


@pytest.mark.parametrize(
    ("output", "file"),
    [
        ("requests", "requests.parquet"),
        ("timeline", "timeline.parquet"),
        ("report", "report.html"),
        ("trace", "trace.json"),
    ],
)
def test_outputs_choose_the_files(stable, tmp_path, output, file):
    outputs = stable.scenario.outputs.model_copy(update={output: False})
    scenario = stable.scenario.model_copy(update={"outputs": outputs})
    less = Result(**{**vars(stable), "scenario": scenario})
    assert {path.name for path in write(less, tmp_path / "out")} == set(PLAIN) - {file}


def test_result_json_is_strict_and_exact(overloaded, tmp_path):
    write(overloaded, tmp_path / "out")
    read = strict(tmp_path / "out" / "result.json")
    expected = {name: value for name, value in overloaded.metrics.items() if name != "cpu_s"}
    assert read == plain(expected)
    assert read["p99_ttft_ms"] is None
    assert read["p50_tpot_ms"] == overloaded["p50_tpot_ms"]
    assert strict(tmp_path / "out" / "run.json")["cpu_s"] == overloaded["cpu_s"]


def test_plain_leaves_nothing_that_json_lacks():
    given = {"a": np.float64("nan"), "b": [float("inf"), np.int64(3)], "c": np.arange(2), 4: (True, None)}
    assert plain(given) == {"a": None, "b": [None, 3], "c": [0, 1], "4": [True, None]}


@pytest.mark.parametrize("name", ["stable", "rich_one"])
def test_the_scenario_reproduces_the_run(name, request, tmp_path):
    result = request.getfixturevalue(name)
    write(result, tmp_path / "one")
    again = load(tmp_path / "one" / "scenario.yaml")
    assert again == result.scenario
    write(simulate(again), tmp_path / "two")
    # What a person set and what was filled in look alike in a resolved scenario, so it may list more of these.
    listed = "settings_without_effect"
    one, two = (strict(tmp_path / out / "result.json") for out in ("one", "two"))
    assert {k: v for k, v in one.items() if k != listed} == {k: v for k, v in two.items() if k != listed}
    for file in ("scenario.yaml", "requests.parquet", "timeline.parquet", "trace.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_the_seed_in_use_is_the_one_written(stable, tmp_path):
    other = simulate(stable.scenario, seed=7)
    (tmp_path / "s.yaml").write_text(scenario_yaml(other))
    assert load(tmp_path / "s.yaml").seed == 7
    assert default_folder(other) != default_folder(stable)


def test_same_bytes_for_the_same_seed(stable, tmp_path):
    write(stable, tmp_path / "one")
    write(simulate(stable.scenario), tmp_path / "two")
    for file in set(PLAIN) - {"run.json"}:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_frames_survive(stable, tmp_path):
    write(stable, tmp_path / "out")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "requests.parquet"), stable.requests)
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out" / "timeline.parquet"), stable.timeline, check_dtype=False
    )


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, OSError(28, "No space left on device"), RuntimeError("x")]
)
def test_a_failure_in_the_middle_leaves_nothing(stable, tmp_path, monkeypatch, error):
    def fail(result: Result, path: Path) -> None:
        raise error

    monkeypatch.setattr(folder, "_WRITERS", {**folder._WRITERS, "timeline.parquet": fail})
    expected = InputError if isinstance(error, OSError) else error if isinstance(error, type) else type(error)
    with pytest.raises(expected):
        write(stable, tmp_path / "new" / "parents" / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["write", "rename"])
def test_a_failure_keeps_the_old_folder(stable, tmp_path, monkeypatch, where):
    out = tmp_path / "out"
    write(stable, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    rename = os.rename

    def fail(*arguments: object) -> None:
        raise OSError("broken")

    def fail_to_put(source: Path, target: Path) -> None:
        if Path(target) == out and not str(source).endswith("-old"):
            raise OSError("broken")
        rename(source, target)

    if where == "write":
        monkeypatch.setattr(folder, "_WRITERS", {**folder._WRITERS, "trace.json": fail})
    else:
        monkeypatch.setattr(whole.os, "rename", fail_to_put)
    with pytest.raises(InputError, match="broken"):
        write(stable, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_old_run_is_replaced(stable, overloaded, tmp_path):
    write(overloaded, tmp_path / "out")
    write(stable, tmp_path / "out")
    assert strict(tmp_path / "out" / "result.json")["regime"] == "STABLE"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_no_run_wrote_is_refused(stable, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    write(stable, tmp_path / "mixed")
    (tmp_path / "mixed" / "notes.txt").write_text("mine")
    for name in ("file", "mine", "mixed", "file/below"):
        before = sorted(map(str, tmp_path.rglob("*")))
        with pytest.raises(InputError):
            write(stable, tmp_path / name)
        assert sorted(map(str, tmp_path.rglob("*"))) == before
    with pytest.raises(InputError, match=r"notes\.txt"):
        check_folder(tmp_path / "mixed")
    (tmp_path / "empty").mkdir()
    assert write(stable, tmp_path / "empty")


def test_the_default_folder_is_a_plain_name(stable, rich_one):
    assert str(default_folder(stable)).startswith("out/small-")
    name = default_folder(rich_one).name
    assert name.isascii()
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert default_folder(stable) == default_folder(simulate(stable.scenario))
