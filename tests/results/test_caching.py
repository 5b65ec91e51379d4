"""What results say of prefix caches adds up to what requests found in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toy

from clustersim.simulation import simulate

TIERS = [{"where": "host_memory", "capacity": "1 GB"},
         {"where": "remote_store", "capacity": "1 TB", "store": "when_computed"}]  # fmt: skip
#: An 8B model with room for a few inputs.
SMALL = {"name": "small", "step_overhead": "1 ms", "sequence_overhead": "10 us", "overlapped": False,
         "memory_frac": 0.28, "reserved": "3.5 GB"}  # fmt: skip


def scenario(folder: Path, deployments: list[dict[str, Any]], **changes: Any) -> Any:
    """Return three turns of ten conversations each, which come round in turn."""
    rows = [
        {"timestamp": 300 * (10 * turn + topic), "input_length": 1000 * (turn + 1) + 1, "output_length": 20,
         "hash_ids": [1000 * topic + block for block in range(2 * (turn + 1))]}
        for turn in range(3) for topic in range(10)
    ]  # fmt: skip
    path = folder / "turns.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    every = [{"model": "llama-3.1-8b", "on": "pool", "serving_engine": SMALL, "max_model_len": 4000, **each}
             for each in deployments]  # fmt: skip
    workload = {"trace": {"path": str(path), "block_tokens": 500}, "lengths": None, "arrivals": None,
                "num_requests": None, "to": "serve"}  # fmt: skip
    return toy.scenario(deployments=every, workload=workload, **changes)


@pytest.mark.parametrize("warm_up", ["none", {"kind": "fraction", "fraction": 0.4}])
def test_hits_by_tier_are_what_measured_requests_found(tmp_path: Path, warm_up: Any) -> None:
    result = simulate(scenario(tmp_path, [{"name": "serve", "kv_tiers": TIERS}], warm_up=warm_up))
    rows = result.requests
    measured = rows[rows["arrival_s"] >= result["window_s"][0]]
    assert sum(result["tier_hits"].values()) == measured["cached_tokens"].sum() > 0
    assert result["prefix_hit_frac"] == measured["cached_tokens"].sum() / measured["input_tokens"].sum()
    assert list(result["tier_hits"]) == ["gpu", "host_memory", "remote_store"]
    assert all(tokens >= 0 for tokens in result["tier_hits"].values())
    assert result["tier_hits"]["host_memory"] > 0
    moved = result["kv_offload"]
    assert moved["stored_bytes"]["remote_store"] > moved["loaded_bytes"]["remote_store"]
    assert 0 < moved["p50_s"] <= moved["p99_s"]


def test_of_a_pair_the_one_that_prefills_has_the_cache(tmp_path: Path) -> None:
    pair = [{"name": "serve", "prefill_by": "prefill"}, {"name": "prefill", "kv_tiers": TIERS}]
    each = simulate(scenario(tmp_path, pair))["deployments"]
    assert "prefix_hit_frac" not in each["serve"]
    assert each["prefill"]["prefix_hit_frac"] > 0.3
    assert each["prefill"]["tier_hits"]["host_memory"] > 0


def test_where_nothing_begins_alike_nothing_is_said() -> None:
    result = simulate(toy.scenario(workload={"num_requests": 10}))
    assert not {"prefix_hit_frac", "tier_hits", "kv_offload"} & set(result.metrics)


def test_without_prefix_caching_nothing_is_said(tmp_path: Path) -> None:
    result = simulate(scenario(tmp_path, [{"name": "serve", "prefix_caching": False}]))
    assert "prefix_hit_frac" not in result.metrics
    assert result.requests["cached_tokens"].sum() == 0


def test_a_tier_that_nothing_goes_to_had_no_effect(tmp_path: Path) -> None:
    tiers = [{**tier, "store": "when_evicted"} for tier in TIERS]
    plenty = {"name": "serve", "kv_tiers": tiers, "serving_engine": "vllm-v1"}
    unused = simulate(scenario(tmp_path, [plenty]))["settings_without_effect"]
    assert "deployments.serve.kv_tiers: nothing was written to host_memory" in unused
    assert "deployments.serve.kv_tiers: nothing was written to remote_store" in unused
