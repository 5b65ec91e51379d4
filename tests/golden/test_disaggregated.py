"""Prefill and decode apart against together, at equal accelerators, as stored; `pytest --update-golden` stores it anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import clustersim as cs

STORED = Path(__file__).parent / "disaggregation.json"
METRICS = ("completed", "goodput_frac", "p50_ttft_ms", "p99_ttft_ms", "p50_tpot_ms", "p99_tpot_ms", "num_accelerators",
           "usd_per_output_mtok")  # fmt: skip


def test_disaggregated_against_colocated(update_golden: bool) -> None:
    found = {}
    for name in ("colocated", "disaggregated"):
        result = cs.simulate(cs.load(name))
        found[name] = {metric: result[metric] for metric in METRICS}
        assert result["regime"] == "STABLE"
    moved = result["deployments"]["serve-70b"]["kv_transfer"]
    found["disaggregated"] |= {"kv_bytes": moved["bytes"], "p50_transfer_s": moved["p50_s"]}
    if update_golden:
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    stored = json.loads(STORED.read_text())
    for name, values in stored.items():
        assert found[name] == pytest.approx(values, rel=1e-9), name
    together, apart = found["colocated"], found["disaggregated"]
    assert together["num_accelerators"] == apart["num_accelerators"] == 16
    assert apart["p99_tpot_ms"] < 0.75 * together["p99_tpot_ms"], "nothing interrupts decoding"
    assert apart["goodput_frac"] > together["goodput_frac"]
