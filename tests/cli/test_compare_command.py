"""`clustersim compare` as a person or a script meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from test_commands import Run, clustersim, strict  # noqa: F401 - a fixture

BASE = ("compare", "tiny.yaml", "--vary", "deployments.serve.precision=fp8", "--replications", "2", "--quiet")


def test_it_prints_an_answer_and_writes_a_folder(clustersim: Run, tmp_path: Path) -> None:  # noqa: F811
    answer = clustersim(*BASE)
    assert "A  tiny" in answer.stdout
    assert "B  tiny, precision=fp8" in answer.stdout
    assert "How sure:" in answer.stdout
    assert answer.stderr == ""
    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "compare.html", "comparison.json", "replications.parquet", "A.yaml", "B.yaml",
    }  # fmt: skip


def test_json_is_what_the_folder_holds(clustersim: Run, tmp_path: Path) -> None:  # noqa: F811
    answer = clustersim(*BASE, "--format", "json", "--out", "here", "--by", "p50_tpot_ms", "--seed", "3")
    found = strict(answer.stdout)
    assert found == strict((tmp_path / "here/comparison.json").read_text())
    assert found["by"] == "p50_tpot_ms"
    assert found["seeds"][0] == 3
    assert [row["letter"] for row in found["ranking"]] == ["B", "A"]


def test_mistakes_exit_with_two_and_write_nothing(clustersim: Run, tmp_path: Path) -> None:  # noqa: F811
    for arguments, says in (
        (("tiny.yaml", "tiny.yaml"), "are the same scenario"),
        (("tiny.yaml",), "2 to 12 scenarios, not 1"),
        (("tiny.yaml", "chat_h1000"), 'Did you mean "chat_h100"'),
        ((*BASE[1:], "--by", "p99_tftt_ms"), 'Did you mean "p99_ttft_ms"'),
        ((*BASE[1:], "--equal", "quality", "--target", "0.8", "--knob", "deployments.serve.replica=1..4"),
         'Did you mean "deployments.serve.replicas"'),
        ((*BASE[1:], "--budget", "ten dollars"), 'write it like "10 M$/yr"'),
        ((), "FILE|NAME"),
    ):  # fmt: skip
        answer = clustersim("compare", *arguments, code=2)
        assert says in answer.stderr
        assert answer.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


def test_an_interrupt_leaves_nothing(clustersim: Run, tmp_path: Path) -> None:  # noqa: F811
    program = [sys.executable, "-c", "from clustersim.cli import main; main()", *BASE, "--set", "horizon=6 h"]
    running = subprocess.Popen(
        program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    time.sleep(5)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert out == ""
    assert "stopped; a result is written whole or not at all" in err
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}
