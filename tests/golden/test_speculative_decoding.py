"""Speculative decoding against batch size, as stored; `pytest --update-golden` stores it anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clustersim.models.step import StepShape
from clustersim.scenario.load import load_with_plans
from clustersim.study.explain import explain

STORED = Path(__file__).parent / "speculative_decoding.json"
BATCHES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def test_gain_against_batch_size(update_golden: bool) -> None:
    """DeepSeek-V3 on 32 H100, sequences of 2,000 tokens: seconds by batch."""
    _, (plan,) = load_with_plans("speculative_decoding")
    found = {}
    for batch in BATCHES:
        split = explain(plan, "decode", StepShape.decode(batch, 2000)).speculated
        assert split is not None
        names = ("draft_s", "verify_s", "token_s", "plain_step_s", "gain")
        found[str(batch)] = {name: getattr(split, name) for name in names}
    if update_golden:
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    stored = json.loads(STORED.read_text())
    assert found.keys() == stored.keys()
    for batch, values in stored.items():
        assert found[batch] == pytest.approx(values, rel=1e-9), batch
    gains = [values["gain"] for values in stored.values()]
    assert gains[0] > 1.4
    assert gains[-1] < 1.15
