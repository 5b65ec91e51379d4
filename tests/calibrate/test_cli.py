"""`python -m calibrate` as a person meets it: help, exit codes, what is printed, and that clustersim reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from calibrate import contention, doctor, session
from calibrate.cli import CONTENDED, main
from calibrate.cluster.result import ClusterResult
from calibrate.doctor import Finding, examine
from calibrate.linkfit import LinkFit
from clustersim.cost.profile import load_profile

Run = Callable[..., int]


@pytest.fixture
def calibrate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("CLUSTERSIM_PROFILES", str(tmp_path))
    monkeypatch.setattr(contention, "look", lambda seconds: {"interval_s": seconds, "psi_cpu": 0.0})
    monkeypatch.setattr(contention.Gate, "refuses", lambda self, marked, total: False)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["calibrate", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


FAKE = ("run", "--plan", "quick", "--provider", "fake_device:device", "--quiet")


def test_help_has_examples_and_imports_no_torch() -> None:
    code = "import sys; sys.argv = ['calibrate', '--help']\nfrom calibrate.cli import main\n"
    code += "try: main()\nfinally: assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for word in ("run", "doctor", "check", "Examples:", "--plan quick"):
        assert word in done.stdout


def test_a_run_writes_a_profile_that_clustersim_loads(
    calibrate: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert calibrate(*FAKE) == 0
    said = capsys.readouterr().out
    for word in (
        "median",
        "95 % interval",
        "gemm",
        "m=4 n=512 k=1024",
        "Profile:",
        "local-cpu",
        "shapes unseen",
    ):
        assert word in said
    profile = load_profile("local-cpu")
    assert profile is not None
    assert (profile.name, profile.evidence) == ("local", "measured")
    assert profile.device_figures is not None
    assert profile.device_figures.driver_name == "Fake 1"
    assert profile.provenance.started <= profile.provenance.ended
    assert profile.provenance.started
    assert [path.name for path in (tmp_path / "local-cpu" / "local").glob("*.yaml")] == ["profile.yaml"]
    assert calibrate(*FAKE) == 0, "a run that ended is measured anew"
    assert len(list((tmp_path / ".runs").glob("*done-*"))) >= 1


def test_a_busy_host_is_refused_before_it_is_measured(
    calibrate: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(contention, "look", lambda seconds: {"interval_s": seconds, "psi_cpu": 0.9})
    assert calibrate(*FAKE) == CONTENDED == 3
    said = capsys.readouterr().err
    assert "psi_cpu 0.9 > 0.05" in said
    assert "--allow-contended" in said
    assert not list(tmp_path.rglob("profile.yaml"))


def test_contended_samples_are_refused_kept_and_used_when_allowed(
    calibrate: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session.contention.Gate, "refuses", lambda self, marked, total: True)
    assert calibrate(*FAKE) == CONTENDED
    assert "with --allow-contended they are used" in capsys.readouterr().err
    assert not list(tmp_path.rglob("profile.yaml"))
    assert calibrate(*FAKE, "--allow-contended") == 0
    captured = capsys.readouterr()
    assert "18 results are there" in captured.err
    assert "other programs ran" in captured.out
    profile = load_profile("local-cpu")
    assert profile is not None
    assert profile.quality is not None
    assert profile.quality.contended


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((*FAKE, "--bench", "gem"), 'Did you mean "gemm"'),
        (("run", "--provider", "fake_device:absent"), "no device here"),
        (("run", "--plan", "thorough"), "thorough"),
        (("check", "--nonsense"), "nonsense"),
        (("walk",), "walk"),
    ],
)
def test_what_cannot_be_used_exits_with_two(
    calibrate: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], word: str
) -> None:
    assert calibrate(*arguments) == 2
    said = capsys.readouterr().err
    assert word in said
    assert "Traceback" not in said


def test_a_place_that_cannot_be_written_is_told(
    calibrate: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert calibrate(*FAKE, "--out", str(tmp_path / "file" / "below")) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_out_says_how_its_profiles_are_used(
    calibrate: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        calibrate(
            *FAKE,
            "--out",
            str(tmp_path / "else"),
            "--name",
            "mine",
            "--device",
            "h100-sxm",
            "--bench",
            "gemm",
        )
        == 0
    )
    said = capsys.readouterr().out
    assert f"CLUSTERSIM_PROFILES={tmp_path / 'else'}" in said
    assert (tmp_path / "else" / "h100-sxm" / "mine" / "profile.yaml").exists()


def test_the_doctor_has_a_remedy_for_what_is_missing(
    calibrate: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate("doctor") == 0
    assert "remedy" in capsys.readouterr().out
    findings = examine()
    assert {"torch", "GPU", "pressure (PSI)", "CPU governor"} <= {each.subject for each in findings}
    assert all(each.remedy for each in findings if each.verdict == "missing")


def test_the_doctor_says_what_can_be_measured_and_on_which_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def said() -> dict[str, Finding]:
        return {each.subject: each for each in examine()}

    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "_RAY_CLUSTER", tmp_path / "none")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert said()["can be measured"].verdict == "missing"
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = said()
    assert "operators on the CPU" in found["can be measured"].what
    assert "TCP (gloo)" in found["can be measured"].what
    assert found["Ray cluster"].what.startswith("none at hand")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "no token" in said()["Ray cluster"].what
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert said()["Ray cluster"].verdict == "ok"
    assert "secret" not in str(said()), "a token is never shown"


@pytest.mark.parametrize("option", [("--device", "h100-sxm"), ("--bench", "gemm"), ("--threads", "2")])
def test_options_of_one_host_are_refused_for_a_cluster(
    calibrate: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: tuple[str, str]
) -> None:
    assert calibrate("run", "--address", "auto", "--out", str(tmp_path / "out"), *option) == 2
    assert option[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cluster_is_measured_as_it_was_asked(
    calibrate: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict[str, object]] = []

    def main(**given: object) -> ClusterResult:
        asked.append(given)
        return ClusterResult(tmp_path, ["a", "b"], [LinkFit("tcp", "a", "b", missing="b died")], [], [], [])

    monkeypatch.setattr("calibrate.cluster.run.main", main)
    assert calibrate("run", "--address", "auto") == 2
    assert "give --out" in capsys.readouterr().err
    assert (
        calibrate(
            "run", "--address", "10.0.0.1:6379", "--plan", "full", "--out", str(tmp_path), "--allow-contended"
        )
        == 0
    )
    assert "a - b: missing: b died" in capsys.readouterr().out
    assert asked[0]["address"] == "10.0.0.1:6379"
    assert (asked[0]["plan"], asked[0]["out"], asked[0]["allow_contended"]) == ("full", tmp_path, True)
    assert "name" not in asked[0], "a cluster's own default"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert calibrate("run", "--out", str(tmp_path), "--name", "mine") == 0
    assert (asked[1]["address"], asked[1]["name"]) == ("auto", "mine")
    assert calibrate("cluster", "--out", str(tmp_path), "--op", "p2p", "--no-sweep") == 0
    assert (asked[2]["ops"], asked[2]["sweep"]) == (("p2p",), False)


def test_the_doctor_looks_where_it_is_told(tmp_path: Path) -> None:
    by_name = {each.subject: each for each in examine(tmp_path, tmp_path)}
    assert by_name["pressure (PSI)"].verdict == "missing"
    (tmp_path / "devices/system/cpu/cpu0/cpufreq").mkdir(parents=True)
    (tmp_path / "devices/system/cpu/cpu0/cpufreq/scaling_governor").write_text("powersave\n")
    governor = {each.subject: each for each in examine(tmp_path, tmp_path)}["CPU governor"]
    assert governor.verdict == "note"
    assert "cpupower" in governor.remedy
    assert os.sep not in governor.subject
