"""Settings of wide expert parallelism in scenario files: what is refused, with its line, and what had no effect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy

from clustersim import simulate
from clustersim.errors import InputError
from clustersim.scenario.load import load, load_with_plans

GOOD = """\
name: wide
horizon: 10 s
fleet:
  - site: us-iowa
    clusters:
      - {name: pool, node: hgx-h100, count: 4}
deployments:
  - name: serve
    model: deepseek-v3
    on: pool
    parallelism:
      {ep: 32, attention_dp: 32, redundant_experts: 32, all_to_all: deepep_low_latency, two_batch_overlap: true}
    expert_popularity: {kind: zipf, exponent: 0.5}
workloads:
  - name: asks
    arrivals: {kind: poisson, rate: 2 req/s}
    lengths: {kind: fixed, input: 100, answer: 20}
"""
WRONG = {
    "kind: zipf, exponent: 0.5": [
        ("kind: zipf, exponent: -1", 13, "greater than or equal to 0"),
        ("kind: zip, exponent: 1", 13, 'Did you mean "zipf"?'),
        ("kind: counted, counts: [1, 2]", 13, "2 counts, but a layer has 256 experts"),
        ("kind: counted, counts: [0, 0]", 13, "must not all be 0"),
        ("kind: busiest_rank, ratio: 25, ranks: 32", 13, "cannot have 25 times the mean load"),
        ("kind: busiest_rank, ratio: .nan, ranks: 32", 13, "finite"),
    ],
    "redundant_experts: 32": [
        ("redundant_experts: 31", 11, "choices: 1; or redundant_experts: 32"),
        ("redundant_experts: -1", 12, "greater than or equal to 0"),
        ("redundant_experts: 1e6", 12, "integer"),
    ],
    "deepep_low_latency": [("deepep", 12, "deepep_low_latency")],
    "attention_dp: 32": [
        ("attention_dp: 1, tp: 32", 11, "all_to_all deepep_low_latency, but tokens travel only")
    ],
    "two_batch_overlap: true": [("two_batch_overlap: 2", 12, "boolean")],
}
CASES = [pytest.param(old, *case, id=case[0]) for old, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize(("old", "new", "line", "why"), CASES)
def test_what_cannot_be_is_refused_with_its_line(
    old: str, new: str, line: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert old in GOOD
    (tmp_path / "mine.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_with_plans("mine.yaml")
    assert f"mine.yaml:{line}: " in str(caught.value)
    assert why in str(caught.value)


def test_the_good_one_is_good_and_ep_320_fits_80_gb(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    load_with_plans(tmp_path / "mine.yaml")
    widest = GOOD.replace("count: 4", "count: 40").replace(
        "ep: 32, attention_dp: 32, redundant_experts: 32",
        "tp: 4, ep: 320, attention_dp: 80, redundant_experts: 64",
    )
    (tmp_path / "wide.yaml").write_text(widest)
    _, (plan,) = load_with_plans(tmp_path / "wide.yaml")
    assert plan.num_accelerators == 320
    assert plan.memory.weights_bytes < 25e9
    assert plan.memory.kv_bytes > 30e9
    assert sum(size for _, size in plan.memory.rows()) == pytest.approx(plan.memory.capacity_bytes)


def test_popularity_without_expert_parallelism_had_no_effect() -> None:
    for model, why in (
        ("mixtral-8x7b", "every rank has all experts"),
        ("llama-3.1-8b", "llama-3.1-8b has none"),
    ):
        deployment = {
            "model": model,
            "parallelism": {"tp": 8},
            "expert_popularity": {"kind": "zipf", "exponent": 1},
        }
        found = simulate(toy.scenario(deployment=deployment, workload={"num_requests": 3}))
        assert any(f"expert_popularity: {why}" in line for line in found.metrics["settings_without_effect"])


def test_deepseeks_units_advance_in_runs_as_step_by_step() -> None:
    """Halved steps, exchanges and skew are in both."""
    skew = "deployments.0.expert_popularity={kind: zipf, exponent: 0.5}"
    settings = {
        "deepseek_inference_system": [
            "workloads.0.arrivals.rate=20 req/s",
            "workloads.0.lengths.answer=60",
            "horizon=6 s",
        ],
        "deepseek_prefill_unit": ["horizon=20 s", "workloads.0.arrivals.concurrency=96", skew],
    }
    for name, changes in settings.items():
        both = [
            simulate(load(name, [*changes, f"engine.mode={mode}"])).requests for mode in ("runs", "stepwise")
        ]
        assert len(both[0]) > 100
        for column in ("first_token_s", "finish_s"):
            np.testing.assert_allclose(both[0][column], both[1][column], rtol=1e-9)
