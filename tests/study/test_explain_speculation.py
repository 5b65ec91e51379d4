"""`explain` splits a decode step with drafts into drafting and verifying, and says what it gains."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from clustersim.cli import cli
from clustersim.models.step import StepShape
from clustersim.scenario.load import load_with_plans
from clustersim.study.explain import explain


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["explain", "speculative_decoding", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_split_adds_up() -> None:
    _, (plan,) = load_with_plans("speculative_decoding")
    each = explain(plan, "decode", StepShape.decode(128, 4096))
    split = each.speculated
    assert split is not None
    assert split.draft_s + split.verify_s == pytest.approx(each.device_s)
    drafted = sum(op.total_s for op in each.ops if op.name.startswith("draft_"))
    assert drafted == pytest.approx(split.draft_s)
    assert 0 < drafted < 0.2 * each.device_s
    assert sum(each.parts.values()) == pytest.approx(each.step_s)
    assert split.token_s == pytest.approx(each.step_s / split.tokens_per_step)
    assert plan.step_time.decode(128).at(128 * 4096) == pytest.approx(split.token_s, rel=0.02)
    _, (without,) = load_with_plans("speculative_decoding", ["deployments.0.speculation=null"])
    plain = explain(without, "decode", StepShape.decode(128, 4096))
    assert plain.speculated is None
    assert plain.step_s == pytest.approx(split.plain_step_s)
    assert split.gain == pytest.approx(plain.step_s / split.token_s)


def test_a_prefill_has_no_split_but_the_drafts_own_prefill() -> None:
    steps = json.loads(printed("--format", "json", "--tokens", "2k"))
    assert steps["prefill"]["speculated"] is None
    names = [op["name"] for op in steps["prefill"]["ops"]]
    assert "draft_input_proj" in names
    assert "draft_attention_prefill" in names
    assert steps["decode"]["speculated"]["tokens_per_step"] == pytest.approx(1.85)


def test_it_is_printed() -> None:
    text = " ".join(printed("--step", "decode", "--batch", "64").split())
    assert "1.85 tokens a step" in text
    assert "times as fast" in text
    assert "weights of the draft" in text
