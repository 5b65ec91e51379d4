"""Corrections of an engine are found again in observations that the simulator itself made with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from toy import scenario

from clustersim.cli import calibrate_from
from clustersim.cost.host import ServingEngine
from clustersim.errors import InputError
from clustersim.scenario.load import load
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario
from clustersim.study.observations import Observed
from clustersim.study.observations.corrections import Corrections, memory_frac_for
from clustersim.study.observations.problem import Pair, simulated
from clustersim.study.observe import Fitted, engine_yaml, fit
from clustersim.yaml_file import parse_yaml

TRUE = Corrections(step_scale=1.2, step_overhead_s=5e-3, sequence_overhead_s=60e-6, frontend_s=50e-3)
METRICS = [f"{stat}_{what}_ms" for stat in ("mean", "median", "p99") for what in ("ttft", "tpot", "e2el")]


def under(rate: float) -> Scenario:
    return scenario(
        deployment={"serving_engine": "vllm-0.12"},
        workload={"arrivals": {"kind": "poisson", "rate": f"{rate} req/s"}, "num_requests": 60},
    )


def shown(loads: Sequence[float], true: Corrections, **more: Any) -> list[Pair]:
    pairs = []
    for rate in loads:
        found = simulated(true.apply(under(rate), 0), 0)
        metrics = {name: found.metrics[name] for name in METRICS}
        pairs.append(Pair(Observed(f"{rate:g}.json", "vllm_bench", metrics, **more), under(rate)))
    return pairs


@pytest.fixture(scope="module")
def several() -> Fitted:
    return fit(shown((1, 40), TRUE))


@pytest.mark.slow
def test_known_overheads_are_found_again(several: Fitted) -> None:
    told = {each.name: each for each in several.parameters}
    assert not [each.untold for each in several.parameters if each.untold]
    for name, tolerance in (
        ("step_scale", 0.1), ("step_overhead_s", 0.1), ("sequence_overhead_s", 0.25), ("frontend_s", 0.05)
    ):  # fmt: skip
        truth = getattr(TRUE, name)
        assert told[name].after == pytest.approx(truth, rel=tolerance), name
        assert abs(told[name].after - truth) < 3 * told[name].deviation, "its interval holds the truth"


@pytest.mark.slow
def test_the_error_is_split_among_corrections(several: Fitted) -> None:
    first, last = several.removed[0], several.removed[-1]
    assert first.before_frac > 0.2
    assert last.after_frac < 0.02
    for before, after in zip(several.removed, several.removed[1:], strict=False):
        assert before.after_frac == after.before_frac
    assert {row.name for row in several.removed} == {
        "KV capacity", "step time", "scheduler and CPU overhead", "frontend"
    }  # fmt: skip
    assert several.after[0].phases_s["frontend"] == pytest.approx(several.corrections.frontend_s, rel=1e-6)


@pytest.mark.slow
def test_what_one_load_cannot_tell_is_said_and_left_as_it_was() -> None:
    found = fit(shown((2,), TRUE))
    untold = {each.name: each for each in found.parameters if each.untold}
    assert untold
    for each in untold.values():
        assert each.after == each.before
        assert "do not tell it from" in each.untold or "hardly depend" in each.untold
    assert found.removed[-1].after_frac < 0.03
    assert any("num_gpu_blocks" in note for note in found.notes)


def test_kv_capacity_is_that_of_the_engine() -> None:
    blocks = 9000
    toy = under(2)
    share = memory_frac_for(toy, 0, blocks)
    true = Corrections.of(toy.deployments[0].serving_engine).with_(memory_frac=share)
    assert plan(true.apply(toy, 0))[0].memory.blocks_per_rank == blocks
    seen = Observed("scrape", "prometheus", {}, kv_blocks=blocks, block_size=32, mean_input_tokens=9e3)
    found = fit([Pair(seen, toy)])
    assert found.corrections.memory_frac == share
    assert all(each.untold for each in found.parameters)
    assert [note for note in found.notes if "KV tokens a block" in note]
    assert [note for note in found.notes if "same load" in note and "input tokens" in note]
    with pytest.raises(InputError, match="no share of memory gives them"):
        memory_frac_for(toy, 0, 10**7)


@pytest.mark.slow
def test_the_engine_that_is_written_is_one_and_says_where_it_is_from(several: Fitted) -> None:
    base = under(1).deployments[0].serving_engine
    text = engine_yaml(several, base, "mine", "2026-01-01", ["1.json", "40.json"])
    engine = ServingEngine.model_validate(parse_yaml(text).data)
    assert (engine.name, engine.step_overhead_s.evidence) == ("mine", "measured")
    assert "40.json" in engine.step_overhead_s.source
    assert engine.reserved_bytes == base.reserved_bytes
    assert "steps take 1." in text
    used = scenario(deployment={"serving_engine": parse_yaml(text).data})
    assert used.deployments[0].serving_engine.frontend_s.value == pytest.approx(0.05, rel=0.05)


def test_observations_that_do_not_belong_together_are_refused() -> None:
    toy = under(2)
    pairs = [
        Pair(Observed(name, "prometheus", {}, kv_blocks=n), toy) for name, n in (("a", 9000), ("b", 8000))
    ]
    with pytest.raises(InputError, match="different KV blocks"):
        fit(pairs)
    with pytest.raises(InputError, match="no metric in common"):
        fit([Pair(Observed("c", "vllm_bench", {"p95_itl_ms": 3.0}), toy)])


@pytest.mark.slow
def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = shown((2,), TRUE)[0]
    bench, mine, out = tmp_path / "bench.json", tmp_path / "mine.json", tmp_path / "engine.yaml"
    bench.write_text(json.dumps(dict(pair.observed.metrics)))
    mine.write_text(json.dumps(under(2).model_dump(mode="json", exclude_unset=True)))
    calibrate_from.command.main(
        [str(bench), "--scenario", str(mine), "--out", str(out)], standalone_mode=False
    )
    said = capsys.readouterr().out
    for word in (
        "mean_ttft_ms",
        "observed",
        "scheduler and CPU overhead",
        "KV capacity",
        "queue",
        "not told",
    ):
        assert word in said, word
    assert "name: observed" in out.read_text()
    with pytest.raises(InputError, match="one scenario for all, or one each"):
        calibrate_from.command.main(
            [str(bench), "--scenario", str(mine), "--scenario", str(mine)], standalone_mode=False
        )
    assert sys.exc_info() == (None, None, None)


@pytest.mark.slow
def test_a_scenario_with_the_written_file_does_what_was_observed(tmp_path: Path) -> None:
    """The whole loop: a known engine's results as vLLM writes them, calibrate-from, `serving_engine: ./engine.yaml`."""
    true = Corrections.of(under(1).deployments[0].serving_engine).with_(
        step_overhead_s=5e-3, frontend_s=50e-3
    )
    pairs = shown((1, 40), true)
    arguments = [str(tmp_path / pair.observed.file) for pair in pairs]
    for file, pair in zip(list(arguments), pairs, strict=True):
        Path(file).write_text(json.dumps({"completed": 60, **pair.observed.metrics}))
        scenario_file = Path(file).with_suffix(".scenario.json")
        scenario_file.write_text(json.dumps(pair.scenario.model_dump(mode="json", exclude_unset=True)))
        arguments += ["--scenario", str(scenario_file)]
    calibrate_from.command.main([*arguments, "--out", str(tmp_path / "engine.yaml")], standalone_mode=False)
    for pair in pairs:
        plain = pair.scenario.model_dump(mode="json", exclude_unset=True)
        plain["deployments"][0]["serving_engine"] = "./engine.yaml"
        (tmp_path / "mine.yaml").write_text(json.dumps(plain))
        mine = load(tmp_path / "mine.yaml")
        engine = mine.deployments[0].serving_engine
        assert (engine.name, engine.step_overhead_s.evidence) == ("observed", "measured")
        assert engine.step_overhead_s.value == pytest.approx(true.step_overhead_s, rel=0.1)
        assert engine.frontend_s.value == pytest.approx(true.frontend_s, rel=0.1)
        found = simulated(mine, 0).metrics
        for name, observed in pair.observed.metrics.items():
            assert found[name] == pytest.approx(observed, rel=0.05), name
