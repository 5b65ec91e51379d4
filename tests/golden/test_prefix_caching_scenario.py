"""Prefix caching and KV offload against neither, as stored; `pytest --update-golden` stores it anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import clustersim as cs

STORED = Path(__file__).parent / "prefix_caching.json"
METRICS = (
    "completed",
    "goodput_frac",
    "p50_ttft_ms",
    "p99_ttft_ms",
    "p50_tpot_ms",
    "utilisation",
    "joules_per_output_token",
)
WAYS = {
    "neither": ("prefix_caching", ["deployments.chat.prefix_caching=false"]),
    "prefix caching": ("prefix_caching", []),
    "KV offload": ("kv_offload", []),
}
REAL = Path(__file__).parents[3] / "shared" / "traces" / "mooncake_conversation.jsonl"


def test_prefix_caching_and_offload(update_golden: bool) -> None:
    found = {}
    for way, (name, changes) in WAYS.items():
        result = cs.simulate(cs.load(name, changes))
        found[way] = {metric: result[metric] for metric in METRICS}
        for metric in ("prefix_hit_frac", "tier_hits", "kv_offload"):
            if metric in result.metrics:
                found[way][metric] = result[metric]
    if update_golden:
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    stored = json.loads(STORED.read_text())
    assert found.keys() == stored.keys()
    for way, values in stored.items():
        assert found[way].keys() == values.keys()
        for name, value in values.items():
            assert flat(found[way][name]) == pytest.approx(flat(value), rel=1e-9), (way, name)
    none, cached, offloaded = found.values()
    assert cached["p50_ttft_ms"] < 0.8 * none["p50_ttft_ms"]
    assert offloaded["p50_ttft_ms"] < 0.8 * cached["p50_ttft_ms"]
    assert offloaded["prefix_hit_frac"] > 1.5 * cached["prefix_hit_frac"]
    assert (
        none["joules_per_output_token"]
        > cached["joules_per_output_token"]
        > offloaded["joules_per_output_token"]
    )


def flat(value: object) -> object:
    """Return numbers that pytest.approx takes."""
    if isinstance(value, dict):
        return {f"{key}.{name}": each for key, item in value.items() for name, each in under(item).items()}
    return value


def under(item: object) -> dict[str, object]:
    """Return what lies under a key."""
    return item if isinstance(item, dict) else {"": item}


@pytest.mark.skipif(not REAL.exists(), reason="Mooncake's trace is not in ../shared")
def test_the_real_trace_runs_as_it_is() -> None:
    changes = [f"workload.trace.path={REAL}", "workload.num_requests=1500", "deployments.chat.replicas=8",
               "fleet.0.clusters.0.count=4"]  # fmt: skip
    result = cs.simulate(cs.load("kv_offload", changes))
    assert result["completed"] == 1500
    assert 0.2 < result["prefix_hit_frac"] < 0.3736
