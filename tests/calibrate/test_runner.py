"""A run: hung, failing and dying cases, drift, budget, resume; in real child processes on the fake device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from calibrate.case import Case
from calibrate.child import Child, WorkerError
from calibrate.plan import Level, Plan
from calibrate.progress import Eta
from calibrate.runner import Host, Outcome, Runner, ask_plan
from calibrate.store import SAMPLES, Store, read_lines
from calibrate.timing import Rule

QUICK = Level(1, Rule(max_s=0.02, warm_up_s=0.01), None, most_requeues=2)
HERE = Path(__file__).parent


def host(timeout_s: float = 30.0, **options: Any) -> Host:
    return Host("fake_device:device", options, least_timeout_s=timeout_s, timeout_factor=0.1)


def planned(where: Host, store: Store, level: Level = QUICK) -> Plan:
    child = where.open(store.folder)
    try:
        plan, hello, _ = ask_plan(child, "quick", ())
    finally:
        child.close()
    assert hello["name"] == "Fake 1"
    return Plan("quick", "Fake 1", plan.cases, level)


def run(where: Host, store: Store, level: Level = QUICK, **settings: Any) -> Outcome:
    return Runner(planned(where, store, level), store, where, allow_contended=True, **settings).run()


def lines(store: Store, kind: str = "samples") -> list[dict[str, Any]]:
    return [line for line in read_lines(store.folder / SAMPLES) if line["kind"] == kind]


def shape(line: dict[str, Any]) -> str:
    return "{m}x{n}".format(**line["case"]["shape"]) if "m" in line["case"]["shape"] else "copy"


def test_every_case_is_measured_once_a_repetition(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = run(host(sizes=2), store, Level(2, QUICK.rule, None))
    assert outcome.gaps == {}
    assert outcome.num_planned == 6
    assert sorted((each.case.key, each.repetition) for each in store.samples()) == sorted(
        (each.case.key, r) for each in outcome.plan.cases for r in range(2)
    )
    orders = [[line["key"] for line in lines(store) if line["repetition"] == r] for r in range(2)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert {line["invalid"] for line in lines(store, "verdict")} == {False}
    assert run(host(sizes=2), store, Level(2, QUICK.rule, None)).gaps == {}
    assert len(lines(store)) == 12


def test_a_hung_case_is_killed_recorded_and_given_up_after_two(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = run(host(3.0, sizes=2, misbehave={"4x512": "hang"}), store)
    assert [error["what"] for error in store.errors()] == ["hung", "hung"]
    assert list(outcome.gaps.values()) == ["given up after two failures"]
    assert len(store.samples()) == 5


def test_failing_and_dying_cases_are_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = run(host(sizes=2, misbehave={"4x512": "fail", "8x1024": "die"}), store)
    errors = {shape(error): (error["what"], error["text"]) for error in store.errors()}
    assert len(store.errors()) == 4
    assert errors["4x512"] == ("failed", "RuntimeError: out of memory, as it were")
    assert errors["8x1024"][0] == "died"
    assert "exit status 7" in errors["8x1024"][1]
    assert len(outcome.gaps) == 2
    assert len(store.samples()) == 4


def test_a_drift_of_the_canary_has_its_block_measured_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = run(host(sizes=2, noise=0.001, drift_after=150, drift=1.3), store)
    assert outcome.gaps == {}
    verdicts = lines(store, "verdict")
    assert [line["invalid"] for line in verdicts][:2] == [True, False]
    assert 0.2 < verdicts[0]["drift"] < 0.4
    assert {line["attempt"] for line in lines(store)} == {0, 1}
    assert all("canary_drift" not in each.flags for each in store.samples())
    assert len(store.samples()) == 6
    assert len(store.all_samples()) == 12


def test_drift_that_never_ends_is_flagged_and_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    where = Host("fake_device:drifting", {}, least_timeout_s=30.0)
    run(where, store, Level(1, QUICK.rule, None, most_requeues=1))
    assert {line["attempt"] for line in lines(store)} == {0, 1}
    assert all("canary_drift" in each.flags for each in store.samples())


def test_a_budget_leaves_gaps_that_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = run(host(sizes=4), store, max_time_s=1.0)
    assert set(outcome.gaps.values()) <= {"over the time budget", "out of time"}
    assert len(outcome.gaps) + len(store.samples()) == outcome.num_planned


def test_a_worker_tells_what_it_cannot_do(tmp_path: Path) -> None:
    child = Child("fake_device:absent", {}, tmp_path / "log")
    with pytest.raises(WorkerError, match="RuntimeError: no device here"):
        child.ask({"ask": "hello"}, 60.0)
    child.close()
    assert not child.alive
    child = Child("fake_device:device", {}, tmp_path / "log")
    with pytest.raises(WorkerError, match='no benchmark "gem"'):
        child.ask({"ask": "cases", "plan": "quick", "benches": ["gem"]}, 60.0)
    with pytest.raises(WorkerError, match="no request"):
        child.ask({"ask": "tea"}, 60.0)
    child.kill()


def test_the_time_left_follows_the_pace() -> None:
    clock = iter([0.0, 4.0])
    eta = Eta(lambda: next(clock))
    eta.start(10.0)
    eta.doing("x", 2.0)
    eta.did()
    assert eta.seconds == pytest.approx(16.0)


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "calibrate", "run", "--plan", "quick", "--provider", "fake_device:slow",
            "--out", str(out), "--allow-contended", *more]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}


def children(pid: int) -> list[int]:
    return [
        int(each)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for each in path.read_text().split()
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kill_9_of_the_driver_loses_one_case_at_most_and_leaves_no_child(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        command(tmp_path), env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    found: list[Path] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = list((tmp_path / ".runs").glob(f"*/{SAMPLES}"))
        if found and found[0].read_bytes().count(b'"kind": "samples"') >= 5:
            break
        time.sleep(0.01)
    workers = children(driver.pid)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert workers
    before = [line["key"] for line in read_lines(found[0]) if line["kind"] == "samples"]
    assert 5 <= len(before) < 18
    for worker in workers:
        wait_for_end(worker, deadline + 20)
    with found[0].open("ab") as torn:
        torn.write(b'{"kind": "samples", "case": {"ben')
    done = subprocess.run(
        command(tmp_path), env=environment(), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} results are there" in done.stderr
    kept = next((tmp_path / ".runs").glob(f"*done-*/{SAMPLES}"))
    first = [line["key"] for line in read_lines(kept) if line["kind"] == "samples" and line["attempt"] == 0]
    assert len(first) == len(set(first)) == 18
    assert first[: len(before)] == before
    assert json.loads((kept.parent / "manifest.json").read_text())[SAMPLES]["bytes"] == kept.stat().st_size


def wait_for_end(pid: int, deadline: float) -> None:
    while (
        Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(") ")[1][:1]
    ):
        assert time.monotonic() < deadline, f"worker {pid} outlived its driver"
        time.sleep(0.05)


def test_ctrl_c_says_that_all_is_kept(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        command(tmp_path), env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(b'"samples"' in path.read_bytes() for path in (tmp_path / ".runs").glob(f"*/{SAMPLES}")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "is kept" in errors
    assert "Traceback" not in errors


def test_cases_survive_their_way_to_the_child(tmp_path: Path) -> None:
    case = Case("gemm", "gemm", "bf16", {"m": 4, "n": 512, "k": 1024})
    child = host().open(tmp_path)
    request = {
        "ask": "measure",
        "case": case.as_dict(),
        "rule": {"max_s": 0.01},
        "repetition": 2,
        "node": "n",
    }
    samples = child.ask(request, 60.0)["samples"]
    child.close()
    assert samples["key"] == case.key
    assert (samples["repetition"], samples["node"]) == (2, "n")
