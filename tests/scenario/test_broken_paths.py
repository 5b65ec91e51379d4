"""Paths and settings on the command line that cannot be meant: what is no scenario, no folder to write, no setting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from refusing import GOOD, everything, refusal, root

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs pipes and links")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("mine.yaml").write_text(GOOD)
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    Path("thesis").mkdir()
    Path("thesis/thesis.txt").write_text("years of work")
    Path("link").symlink_to("thesis")
    Path("a.yaml").write_text("extends: b.yaml\n")
    Path("b.yaml").write_text("extends: c.yaml\n")
    Path("c.yaml").write_text("\nextends: a.yaml\n")
    return folder


SCENARIOS = {
    "folder": "folder: is a folder; give a file",
    "pipe": "pipe: is a pipe or a device",
    "/dev/zero": "/dev/zero: is a pipe or a device",
    "loop": 'no file "loop"',
    "loop/x.yaml": 'no file "loop/x.yaml"',
    "mine.yaml/x": 'no file "mine.yaml/x"',
    "min.yaml": 'no file "min.yaml"',
    "": "is a folder; give a file",
    "x" * 5000: 'no file "xxx',
    "a.yaml": "c.yaml:2: extends: goes round in a circle: a.yaml -> b.yaml -> c.yaml -> a.yaml",
    "reasoning_h10": '"reasoning_h100"',
}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path[:20])
def test_no_scenario(
    path: str, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SCENARIOS[path] in refusal(["run", path], capsys, monkeypatch)


EXTENDS = {
    "nowhere.yaml": 'no file "nowhere.yaml" beside this one',
    "mine.yaml": "goes round in a circle: mine.yaml -> mine.yaml",
    "folder": '"folder" is a folder',
    "pipe": '"pipe" is a pipe or a device',
    "5": "wants one file",
    "[b.yaml]": "wants one file",
    "{a: b}": "wants one file",
    "": "wants one file",
    "train_or_think": "no file",
}


@pytest.mark.parametrize("named", EXTENDS)
def test_nothing_to_extend(
    named: str, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.yaml").write_text(f"name: mine\nextends: {named}\n")
    line = refusal(["check", "mine.yaml"], capsys, monkeypatch)
    assert line.startswith("mine.yaml:2: extends: "), line
    assert EXTENDS[named] in line, line


def test_a_chain_of_files_is_no_circle(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        Path(f"s{number}.yaml").write_text(
            f"extends: {f's{number - 1}.yaml' if number else 'mine.yaml'}\nseed: {number}\n"
        )
    Path("s5.yaml").write_text("extends: s4.yaml\nsed: 5\n")
    assert refusal(["check", "s29.yaml"], capsys, monkeypatch).startswith(
        's5.yaml:2: sed: no key "sed". Did you mean "seed"'
    )


#: Model or engine -> what is said of line 9 or 11.
NAMED = {
    "model: pipe.json": "is a pipe or a device",
    "model: ./pipe.json": "is a pipe or a device",
    "model: ./folder": "is a folder",
    "model: ./loop": "leads back to itself",
    "model: /dev/zero": "is a pipe or a device",
    "model: ~nobody-of-this-name/config.json": "does not exist",
    "model: " + "x" * 5000: 'no model "xxx',
    "model: ./" + "x" * 5000: "too long",
    "model: thesis/thesis.json": "does not exist",
    "model: {architectures: 5}": "architecture",
    "model: words.json": "words.json:1: not valid JSON",
    "model: list.json": "is not a mapping",
    "model: deep.json": "nested too deeply",
    "model: latin.json": "latin.json:1: is not UTF-8",
    "serving_engine: ./pipe.yaml": "is a pipe or a device",
    "serving_engine: ./folder": "is a folder",
    "serving_engine: ./none.yaml": "none.yaml",
    "serving_engine: ./" + "x" * 5000: "no file",
    "serving_engine: mine.yaml": "mine.yaml:",
}


@pytest.mark.parametrize("named", NAMED, ids=lambda named: named[:30])
def test_no_model_and_no_engine(
    named: str, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo("pipe.json")
    os.mkfifo("pipe.yaml")
    Path("words.json").write_text("hello")
    Path("list.json").write_text("[1]")
    Path("deep.json").write_text("[" * 20_000)
    Path("latin.json").write_bytes(b'"\xff"')
    old = "model: llama-3.1-8b" if named.startswith("model") else "on: pool"
    Path("asked.yaml").write_text(
        GOOD.replace(old, f"{'' if 'model' in old else 'on: pool' + chr(10) + '    '}{named}")
    )
    line = refusal(
        ["check", "asked.yaml"], capsys, monkeypatch, lines=6 if named.endswith("mine.yaml") else 1
    )
    assert line.startswith(f"asked.yaml:{9 if 'model' in old else 11}: deployments.0."), line
    assert NAMED[named] in line, line


OUTS = {
    "mine.yaml": "is a file; give a folder",
    "mine.yaml/out": "Not a directory",
    "pipe": "is a file; give a folder",
    "loop": "link that leads back to itself",
    "loop/out": "Too many levels of symbolic links",
    "thesis": "no run of clustersim wrote it",
    "link": "no run of clustersim wrote it",
    "../here/thesis": "no run of clustersim wrote it",
    ".": "the folder that you are in",
    "..": "the folder that you are in",
    "/": "the folder that you are in",
    "folder/..": "the folder that you are in",
    "/dev/null": "is a file; give a folder",
    "/dev/null/out": "Not a directory",
    "x" * 300: "File name too long",
}


@pytest.mark.parametrize("out", OUTS, ids=lambda path: repr(path[:20]))
@pytest.mark.parametrize("command", ["run", "compare", "tradeoff"])
def test_nowhere_to_write(
    command: str, out: str, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before anything runs."""
    asked = {"run": ["mine.yaml"], "compare": ["mine.yaml", "mine.yaml"], "tradeoff": ["train_or_think"]}[
        command
    ]
    assert OUTS[out] in refusal([command, *asked, "--out", out], capsys, monkeypatch)


@pytest.mark.skipif(root(), reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.chmod(0o555)
    try:
        assert "you may not write in" in refusal(["run", "mine.yaml"], capsys, monkeypatch)
        assert "you may not write in" in refusal(["run", "mine.yaml", "--out", "x/y"], capsys, monkeypatch)
    finally:
        mine.chmod(0o755)


def test_a_name_that_climbs_stays_in_out(mine: Path) -> None:
    """A scenario from elsewhere cannot choose where it writes."""
    Path("mine.yaml").write_text(GOOD.replace("name: small", 'name: "../../../evil\\u0000/x"', 1))
    outside = everything(mine.parent)
    ran = subprocess.run(
        [sys.executable, "-c", "from clustersim.cli import main; main()", "run", "mine.yaml"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Traceback" not in ran.stderr
    (made,) = (mine / "out").iterdir()
    assert made.name.startswith("evil_x-")
    assert {name for name in everything(mine.parent) if not name.startswith("here/out")} == set(outside)


SETTINGS = {
    "": "write it like",
    "=": "write it like",
    "=1": "write it like",
    " = 1": "write it like",
    "deployments.0.replicas": "write it like",
    "deployments": "write it like",
    "deployments=": "deployments",
    "deployments.1.replicas=2": "no item",
    "deployments.-1.replicas=2": 'no item "-1"',
    "deployments.².replicas=2": 'no item "²"',
    f"deployments.{'9' * 5000}.replicas=2": "no item",
    "deployments..replicas=2": 'no item ""',
    "deployments.0.replicas.x=2": "deployments.0.replicas",
    "deployments.0.name.x=2": "which has no",
    "deployments.0.scheduler.token_bugdet=64": 'no key "token_bugdet". Did you mean "token_budget"',
    "deployments.0.scheduler.token_budget=-1": "deployments.0.scheduler.token_budget",
    "deployments.0.serving_engine.step_overhed=1 us": 'no key "step_overhed". Did you mean "step_overhead"',
    "deployments.0.replicas=!!python/object:x 1": "tag",
    "deployments.0.replicas=*a": "undefined alias",
    "deployments.0.replicas=[1": "not valid YAML",
    "deployments.0.replicas=1e999": "deployments.0.replicas",
    "workload.arrivals=": "arrivals",
    "workloads.none.to=serve": "no item",
    "extends=reasoning_h100": "stands in the file",
    "study=tradeoff": "stands in the file",
    "fleet=5": "fleet",
    "name=[]": "name",
    "horizon=\x00": "not valid YAML",
    "horizon=\x1b[31m": "not valid YAML",
}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: repr(setting[:40]))
def test_no_setting(
    setting: str, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refusal(["check", "mine.yaml", "--set", setting], capsys, monkeypatch)
    assert line.startswith("--set"), line
    assert SETTINGS[setting] in line, line
    assert line.isprintable()


FLAGS = {
    ("run", "mine.yaml", "--seed", "-1"): "0",
    ("run", "mine.yaml", "--seed", "x"): "integer",
    ("run", "mine.yaml", "--replications", "0"): "1",
    ("run", "mine.yaml", "--assert", "p99_ttft_ms"): "write it like",
    ("compare", "mine.yaml"): "wants 2 to 12 scenarios",
    ("claims", "nowhere.yaml"): "does not exist",
    ("claims", "pipe.yaml"): "is a pipe or a device",
    ("claims", "Z99"): 'no claim "Z99"',
    ("calibrate-from", "pipe", "--scenario", "mine.yaml"): "is a pipe or a device",
    ("calibrate-from", "folder", "--scenario", "mine.yaml"): "is a folder",
    ("calibrate-from", "mine.yaml", "--scenario", "mine.yaml"): "no known format",
    ("claims", "A8", "--html", "folder"): "is a folder; give a file",
    ("claims", "A8", "--html", "none/page.html"): "there is no folder",
    ("calibrate-from", "mine.yaml", "--scenario", "mine.yaml", "--out", "folder"): "is a folder; give a file",
    ("tradeoff", "mine.yaml"): "is no tradeoff study",
    ("tradeoff", "pipe"): "is a pipe or a device",
}


@pytest.mark.parametrize("arguments", FLAGS, ids=" ".join)
def test_no_such_use(
    arguments: tuple[str, ...],
    mine: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    os.mkfifo("pipe.yaml")
    before = everything(mine)
    monkeypatch.setattr(sys, "argv", ["clustersim", *arguments])
    from clustersim.cli import main

    with pytest.raises(SystemExit) as stopped:
        main()
    errors = capsys.readouterr().err
    assert stopped.value.code == 2, errors
    assert FLAGS[arguments] in errors, errors
    assert "Traceback" not in errors
    assert everything(mine) == before
