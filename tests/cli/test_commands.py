"""The command line as a person or a script meets it: help, the five commands, exit codes, streams."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clustersim.cli import cli
from clustersim.study.catalogue import SUBJECTS

COMMANDS = ("run", "check", "explain", "list", "schema")
TINY = """\
name: tiny
horizon: 20 s
fleet:
  - site: us-iowa
    clusters:
      - {name: pool, node: hgx-h100}
deployments:
  - {name: serve, model: qwen3-8b, on: pool}
workload:
  use: chat_poisson
  arrivals: {kind: poisson, rate: 3 req/s}
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def clustersim(tmp_path: Path) -> Run:
    """The program in a process of its own, in a folder that holds tiny.yaml, away from the checkout."""
    (tmp_path / "tiny.yaml").write_text(TINY)

    def run(*arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run(
            [sys.executable, "-c", "from clustersim.cli import main; main()", *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}, **options,
        )  # fmt: skip
        assert answer.returncode == code, answer.stdout + answer.stderr
        assert "Traceback" not in answer.stderr
        return answer

    return run


def strict(text: str) -> Any:
    """Parse JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


# ---- help ----------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_gives_examples(clustersim: Run) -> None:
    text = clustersim("--help").stdout
    assert "Examples:" in text
    for command in COMMANDS:
        assert f"  {command} " in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_how_it_is_called(command: str, clustersim: Run) -> None:
    text = clustersim(command, "-h").stdout
    assert "Example" in text
    assert f"clustersim {command}" in text


def test_help_and_import_leave_the_heavy_libraries_alone() -> None:
    code = "import sys, clustersim, clustersim.cli; print(*sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "pandas", "scipy", "pint", "plotly", "pyarrow", "simpy", "pydantic"} & set(modules)


def test_version(clustersim: Run) -> None:
    assert clustersim("--version").stdout.startswith("clustersim ")


def test_an_unknown_command_is_answered_with_the_nearest(clustersim: Run) -> None:
    assert 'no command "rum". Did you mean "run"?' in clustersim("rum", code=2).stderr


def test_an_unknown_option_is_refused(clustersim: Run) -> None:
    assert "--sed" in clustersim("run", "tiny.yaml", "--sed", "3", code=2).stderr


# ---- run -----------------------------------------------------------------------------------------------------------


def test_run_prints_a_summary_and_writes_a_folder(clustersim: Run, tmp_path: Path) -> None:
    answer = clustersim("run", "tiny.yaml")
    assert "tiny" in answer.stdout
    assert "TTFT" in answer.stdout
    assert "STABLE" in answer.stdout
    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} >= {
        "result.json", "requests.parquet", "timeline.parquet", "report.html", "trace.json", "scenario.yaml",
    }  # fmt: skip
    assert strict((folder / "result.json").read_text())["scenario"] == "tiny"
    strict((folder / "trace.json").read_text())


def test_the_scenario_in_the_folder_gives_the_same_result(clustersim: Run, tmp_path: Path) -> None:
    clustersim("run", "tiny.yaml", "--out", "a", "--seed", "7")
    clustersim("run", "a/scenario.yaml", "--out", "b")
    assert (tmp_path / "a/result.json").read_bytes() == (tmp_path / "b/result.json").read_bytes()
    assert (tmp_path / "a/requests.parquet").read_bytes() == (tmp_path / "b/requests.parquet").read_bytes()


def test_run_as_json_gives_the_metrics_and_nothing_else(clustersim: Run) -> None:
    metrics = strict(clustersim("run", "tiny.yaml", "--format", "json").stdout)
    assert metrics["completed"] > 0
    assert metrics["regime"] == "STABLE"
    assert set(metrics["deployments"]) == {"serve"}


def test_settings_and_seed_reach_the_run(clustersim: Run) -> None:
    def metrics(*arguments: str) -> Any:
        return strict(clustersim("run", "tiny.yaml", "--format", "json", *arguments).stdout)

    assert metrics("--set", "deployments.serve.replicas=2")["num_accelerators"] == 2
    assert metrics("--seed", "3")["seed"] == 3


def test_replications_give_intervals(clustersim: Run) -> None:
    answer = clustersim("run", "tiny.yaml", "--replications", "3", "--format", "json")
    replications = strict(answer.stdout)["replications"]
    interval = replications["intervals_95"]["mean_ttft_ms"]
    assert len(set(replications["seeds"])) == interval["n"] == 3
    assert interval["low"] < interval["mean"] < interval["high"]


def test_assertions(clustersim: Run) -> None:
    clustersim("run", "tiny.yaml", "--assert", "regime==STABLE", "--assert", "p99_ttft_ms<60000")
    answer = clustersim("run", "tiny.yaml", "--assert", "p99_ttft_ms<0.001", code=3)
    assert "assertion failed: p99_ttft_ms<0.001: p99_ttft_ms is" in answer.stderr
    assert "TTFT" in answer.stdout


def test_an_assertion_on_no_metric_is_refused(clustersim: Run) -> None:
    assert (
        'no metric "p99_tftt_ms"'
        in clustersim("run", "tiny.yaml", "--assert", "p99_tftt_ms<1", code=2).stderr
    )
    assert "write it like" in clustersim("run", "tiny.yaml", "--assert", "fast", code=2).stderr


def test_a_foreign_folder_is_left_alone(clustersim: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("words")
    answer = clustersim("run", "tiny.yaml", "--out", "mine", code=2)
    assert "mine" in answer.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_no_progress_bar_where_nobody_watches(clustersim: Run) -> None:
    assert clustersim("run", "tiny.yaml").stderr == ""


# ---- check, explain, list, schema ----------------------------------------------------------------------------------


def test_check_says_what_fills_the_memory(clustersim: Run, tmp_path: Path) -> None:
    text = clustersim("check", "tiny.yaml").stdout
    assert "all is well" in text
    assert "KV blocks" in text
    (row,) = strict(clustersim("check", "tiny.yaml", "--format", "json").stdout)["deployments"]
    assert row["model"] == "qwen3-8b"
    assert row["kv_capacity_tokens"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


def test_explain_accounts_for_the_whole_step(clustersim: Run) -> None:
    steps = strict(
        clustersim("explain", "tiny.yaml", "--batch", "8", "--context", "2k", "--format", "json").stdout
    )
    assert set(steps) == {"prefill", "decode"}
    for step in steps.values():
        assert sum(op["total_s"] for op in step["ops"]) == pytest.approx(step["device_s"])
        assert sum(step["parts"].values()) == pytest.approx(step["step_s"])
        assert all(op["source"] for op in step["ops"])
    text = clustersim("explain", "tiny.yaml", "--step", "decode").stdout
    assert "lm_head" in text
    assert "prefill step" not in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--deployment", "srve"), '"serve"'),
        (("--context", "long"), "write it like 4096 or 4k"),
        (("--batch", "0"), "0"),
    ],
)
def test_explain_refuses(arguments: tuple[str, ...], says: str, clustersim: Run) -> None:
    assert says in clustersim("explain", "tiny.yaml", *arguments, code=2).stderr


def test_explain_says_where_host_time_is_and_whence(clustersim: Run) -> None:
    explain = ("explain", "tiny.yaml", "--step", "decode")
    added = ("--set", "deployments.0.serving_engine=vllm-0.12")
    shown = strict(clustersim(*explain, *added, "--format", "json").stdout)["decode"]
    assert shown["host_s"] > 0 == shown["hidden_host_s"]
    assert shown["host_evidence"]
    assert shown["host_source"][:40] in clustersim(*explain, *added).stdout
    hidden = (
        "--set",
        "deployments.0.serving_engine={base: vllm-v1, step_overhead: 1 us, sequence_overhead: 0 s}",
    )
    shown = strict(clustersim(*explain, *hidden, "--format", "json").stdout)["decode"]
    assert shown["hidden_host_s"] == pytest.approx(1e-6)
    assert shown["host_s"] == 0
    text = clustersim(*explain, *hidden).stdout
    assert "1 us of the host are hidden behind the device" in " ".join(text.split())
    assert not re.search(r"^host .* host ", text, flags=re.MULTILINE), "no row without time"


def test_explain_says_that_shapes_are_of_a_micro_batch(clustersim: Run) -> None:
    pipelined = ("--set", "deployments.0.parallelism={pp: 2}")
    assert "one of 2 micro-batches" in clustersim("explain", "tiny.yaml", *pipelined).stdout
    assert "micro-batch" not in clustersim("explain", "tiny.yaml").stdout


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_list_has_rows(subject: str) -> None:
    answer = CliRunner().invoke(cli, ["list", subject, "--format", "json"], catch_exceptions=False)
    rows = strict(answer.stdout)
    assert rows
    assert len({tuple(row) for row in rows}) == 1


def test_list_alone_lists_the_subjects(clustersim: Run) -> None:
    text = clustersim("list").stdout
    assert all(subject in text for subject in SUBJECTS)
    assert "h100-sxm" in clustersim("list", "accelerators").stdout


def test_list_of_something_else_is_refused(clustersim: Run) -> None:
    assert '"accelerators"' in clustersim("list", "accelerator", code=2).stderr


def test_schema_is_json_and_knows_the_parts(clustersim: Run) -> None:
    schema = strict(clustersim("schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"fleet", "deployments", "workload", "workloads", "extends"} <= set(schema["properties"])


# ---- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_mistake_is_one_line_on_stderr_and_two_for_two(clustersim: Run, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace("qwen3-8b", "qwen3-9b").replace("20 s", "20"))
    answer = clustersim("run", "tiny.yaml", code=2)
    assert answer.stdout == ""
    assert [line.split(": ")[0] for line in answer.stderr.splitlines()] == ["tiny.yaml:2", "tiny.yaml:8"]
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


def test_nothing_at_all(clustersim: Run) -> None:
    assert "FILE|NAME" in clustersim("run", code=2).stderr
    assert 'no file "none.yaml"' in clustersim("run", "none.yaml", code=2).stderr
