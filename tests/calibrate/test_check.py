"""`calibrate check`: the engine's schedule, errors on a device whose times are known, and what is left on disk."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from calibrate import contention
from calibrate.check.engine import Engine, Served, WorkClock
from calibrate.check.errors import latency_errors, operator_errors, step_errors, summarise, validated
from calibrate.check.model import PAGE, Chunk
from calibrate.check.record import CHECK, save
from calibrate.check.run import pace_reasons
from calibrate.check.steps import STEPS, Step, measure
from calibrate.cli import CONTENDED, main
from clustersim.cost.profile import read_profile
from clustersim.errors import InputError
from clustersim.models.step import StepShape

STEPS_TAKEN = (
    Step("decode", 2, 128),
    Step("decode", 8, 700),
    Step("prefill", 64, 0),
    Step("prefill", 32, 512),
)


class Device:
    """A step takes `slow` times 1 ms a sequence or token, plus a little noise; it is also the perfect predictor."""

    def __init__(self, slow: float = 1.0, noise: float = 0.0) -> None:
        self.slow, self.noise, self.taken, self.draw = slow, noise, list[Step](), np.random.default_rng(0)
        self.neighbour = (0, 0, 1.0)

    def pace_s(self) -> float:
        return 1e-3 * self.busy()

    def busy(self) -> float:
        """Return how much longer everything takes now."""
        first, last, factor = self.neighbour
        return factor if first <= len(self.taken) < last else 1.0

    def time(self, step: Step) -> tuple[float, Mapping[str, float]]:
        self.taken.append(step)
        seconds = (
            self.busy() * self.slow * 1e-3 * step.batch * (1 + self.noise * abs(self.draw.standard_normal()))
        )
        return seconds, {"gemm": 0.75 * seconds, "rest": 0.25 * seconds}

    def step_s(self, shape: StepShape) -> float:
        return 1e-3 * float(shape.decode_seqs + shape.prefill_tokens)  # type: ignore[operator]

    def roofline_s(self, shape: StepShape) -> float:
        return self.step_s(shape) ** 2

    def operators_s(self, shape: StepShape) -> Mapping[str, float]:
        return {"gemm": 0.75 * self.step_s(shape), "rest": 0.5 * self.step_s(shape)}


class Paced:
    """A model whose every step takes a second on the clock; remembers what each step held."""

    def __init__(self, num_pages: int) -> None:
        self.num_pages, self.now, self.steps = num_pages, 0.0, list[tuple[int, int]]()

    def step(self, decoding: Sequence[Chunk], prefilling: Sequence[Chunk]) -> None:
        self.now += 1.0
        self.steps.append((len(decoding), sum(chunk.tokens for chunk in prefilling)))
        for chunk in (*decoding, *prefilling):
            assert len(chunk.pages) * PAGE >= chunk.past + chunk.tokens
            assert len(set(chunk.pages)) == len(chunk.pages)


def test_steps_on_a_slowed_core_are_timed_anew() -> None:
    device = Device()
    device.neighbour = (6, 18, 1.5)
    found = measure(STEPS_TAKEN, device, 4, seed=0)
    assert [each.median_s for each in found] == pytest.approx([1e-3 * step.batch for step in STEPS_TAKEN])
    assert not any(each.slowed for each in found)
    always = Device()
    always.neighbour = (0, 1000, 1.5)
    assert not any(each.slowed for each in measure(STEPS_TAKEN, always, 2, seed=0, pace_s=1e-3)), (
        "nothing faster"
    )
    late = Device()
    late.neighbour = (7, 1000, 1.5)
    assert any(each.slowed for each in measure(STEPS_TAKEN, late, 2, seed=0, pace_s=1e-3))


def test_a_core_of_another_pace_than_the_profile_s_is_told() -> None:
    assert pace_reasons(1e-3, 1.05e-3, 0) == []
    assert pace_reasons(None, 1e-3, 0) == []
    (slower,) = pace_reasons(1e-3, 1.4e-3, 0)
    assert "slower" in slower
    assert "1.40 times as long" in slower
    faster, slowed = pace_reasons(1.4e-3, 1e-3, 2)
    assert "run it anew" in faster
    assert "2 steps" in slowed


def test_every_step_is_timed_equally_often_in_changing_order() -> None:
    device = Device(noise=0.1)
    found = measure(STEPS_TAKEN, device, 5, seed=1)
    assert [each.step for each in found] == list(STEPS_TAKEN)
    assert all(len(each.seconds) == 5 for each in found)
    rounds = [tuple(device.taken[i : i + 4]) for i in range(0, 24, 4)]
    assert all(set(each) == set(STEPS_TAKEN) for each in rounds)
    assert len(set(rounds)) > 1
    assert found[0].operators["gemm"] == pytest.approx(0.75 * found[0].median_s, rel=0.1)
    assert all(step.shape is not None and str(step) for plan in STEPS.values() for step in plan)


def test_errors_of_a_device_that_is_slower_than_predicted() -> None:
    slow = Device(slow=1.25)
    measured = measure(STEPS_TAKEN, slow, 3, seed=0)
    errors = summarise(step_errors(measured, slow))
    assert errors.num_steps == 4
    assert errors.median_frac == pytest.approx(0.2)
    assert errors.p90_frac == pytest.approx(0.2)
    assert errors.mean_signed_frac == pytest.approx(-0.2)
    assert errors.baseline_p90_frac > errors.p90_frac
    assert summarise(step_errors(measured, slow), "prefill").num_steps == 2
    rows = {row.name: row for row in operator_errors(measured, slow, "decode")}
    assert rows["gemm"].share_frac == pytest.approx(0.75)
    assert rows["gemm"].error_frac == pytest.approx(-0.2)
    assert rows["rest"].error_frac == pytest.approx(0.6)


def test_latencies_are_compared_quantile_by_quantile() -> None:
    seconds = {name: np.arange(1.0, 12.0) for name in ("ttft", "tpot", "e2el")}
    rows = latency_errors(seconds, {name: 2 * each for name, each in seconds.items()})
    assert [row.name for row in rows][:3] == ["p50 ttft", "p90 ttft", "p50 tpot"]
    assert all(row.error_frac == pytest.approx(1.0) for row in rows)
    assert rows[0].measured_s == 6.0


def served(model: Paced, requests: Sequence[Served], **settings: int) -> None:
    Engine(model, WorkClock(lambda: model.now), **settings).serve(requests)


def test_prompts_are_cut_to_the_budget_and_decodes_come_first() -> None:
    model = Paced(100)
    requests = [Served(0.0, 20, 3), Served(0.5, 30, 2)]
    served(model, requests, token_budget=16)
    assert model.steps[:4] == [(0, 16), (0, 16), (1, 15), (1, 3)]
    assert [each.finish_s for each in requests] == [4.0, 5.0]
    assert requests[0].first_token_s == 2.0
    assert all(tokens + decoding <= 16 for decoding, tokens in model.steps)


def test_idle_time_is_skipped() -> None:
    model = Paced(10)
    requests = [Served(100.0, 5, 1), Served(1000.0, 5, 2)]
    served(model, requests)
    assert (requests[0].finish_s, requests[1].finish_s) == (101.0, 1002.0)
    assert model.now == 3.0


def test_the_last_admitted_is_preempted_and_all_pages_come_back() -> None:
    model = Paced(4)
    requests = [Served(0.0, PAGE, 2 * PAGE), Served(0.0, PAGE, 2 * PAGE)]
    engine = Engine(model, WorkClock(lambda: model.now))
    engine.serve(requests)
    assert requests[0].num_preemptions == 0
    assert requests[1].num_preemptions >= 1
    assert all(each.made == each.output_tokens for each in requests)
    assert sorted(engine.free) == list(range(4))
    with pytest.raises(ValueError, match="exceeds the cache"):
        served(Paced(1), [Served(0.0, 100, 2)])


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile of the fake device, in the user's folder."""
    monkeypatch.setenv("CLUSTERSIM_PROFILES", str(tmp_path))
    monkeypatch.setattr(contention, "look", lambda seconds: {"interval_s": seconds, "psi_cpu": 0.0})
    run(monkeypatch, "run", "--plan", "quick", "--provider", "fake_device:device", "--quiet")
    return tmp_path / "local-cpu" / "local"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["calibrate", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_errors_go_into_the_profile_whole_or_not_at_all(profile: Path) -> None:
    before = read_profile(profile / "profile.yaml")
    assert before.unvalidated
    measured = measure(STEPS_TAKEN, Device(slow=1.25), 3, seed=0)
    errors = summarise(step_errors(measured, Device()))
    save(validated(before, errors), {"schema": 1}, profile)
    after = read_profile(profile / "profile.yaml")
    assert not after.unvalidated
    assert after.validation is not None
    assert (after.validation.e2e_ape_frac, after.validation.num_steps) == (pytest.approx(0.2), 4)
    assert after.validation.cv_ape_frac == before.validation.cv_ape_frac  # type: ignore[union-attr]
    assert after.fits == before.fits
    assert json.loads((profile / CHECK).read_text()) == {"schema": 1}
    assert not list(profile.glob(".check.*"))
    shutil.rmtree(profile)
    with pytest.raises(InputError, match="cannot be written"):
        save(after, {}, profile)


def test_a_busy_host_is_refused(
    profile: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contention, "look", lambda seconds: {"interval_s": seconds, "psi_cpu": 0.9})
    assert run(monkeypatch, "check", "--plan", "quick") == CONTENDED
    assert "this host is busy" in capsys.readouterr().err
    assert read_profile(profile / "profile.yaml").unvalidated


def test_a_profile_that_is_not_there_is_an_error(
    profile: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check", "--name", "other") == 2
    assert "local" in capsys.readouterr().err
    assert run(monkeypatch, "check", "--device", "h100-sxm", "--name", "silicon") == 2
    assert "calibrate-from" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch, which serves the model")
def test_the_whole_check_on_this_machine(
    profile: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it runs; how large the errors are is no matter here, since the profile is of a made-up device."""
    assert run(monkeypatch, "check", "--plan", "quick", "--allow-contended", "--quiet", "--seconds", "2") == 0
    said = capsys.readouterr().out
    for word in ("decode", "prefill", "one constant's median", "attention_decode", "p90 e2el", "Written"):
        assert word in said, word
    report = json.loads((profile / CHECK).read_text())
    assert report["errors"]["all"]["num_steps"] == len(STEPS["quick"])
    assert not read_profile(profile / "profile.yaml").unvalidated
    manifest = json.loads((profile / "manifest.json").read_text())
    assert CHECK in json.dumps(manifest)
