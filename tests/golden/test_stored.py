"""A built-in scenario, cut short, gives the metrics that are stored; `pytest --update-golden` stores them anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clustersim import load, simulate

STORED = Path(__file__).parent / "reasoning_h100.json"
#: What says where and when a result was made, or is prose.
LEFT_OUT = {"cpu_s", "clustersim_version", "regime_rule", "deployments"}


def test_reasoning_on_h100(update_golden: bool) -> None:
    result = simulate(load("reasoning_h100", ["horizon=90 s"]))
    metrics = {name: value for name, value in result.metrics.items() if name not in LEFT_OUT}
    if update_golden:
        STORED.write_text(json.dumps(metrics, indent=1) + "\n")
    stored = json.loads(STORED.read_text())
    assert list(metrics) == list(stored)
    for name, value in stored.items():
        assert json.loads(json.dumps(metrics[name])) == near(value), name


def near(value: object) -> object:
    """Return what compares equal to `value` up to rounding."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9)
    if isinstance(value, dict):
        return {key: near(item) for key, item in value.items()}
    return [near(item) for item in value] if isinstance(value, list) else value
