"""KV in slower tiers: runs equal steps, blocks and bytes are conserved, and what is stored comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import toy_fleet
import toy_tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tiers import BLOCK, BYTES_PER_TOKEN, check

from clustersim.kinds import kinds
from clustersim.scenario.schema import Scenario

TIMES = ("arrival_s", "scheduled_s", "first_token_s", "first_answer_s", "finish_s")
COUNTS = (
    "cached_tokens",
    "replica",
    "num_preemptions",
    "num_retries",
    "status",
    "thinking_tokens",
    "answer_tokens",
)
SHAPES = ("trace", "shared", "pair", "tasks", "tasks_pair", "fleet", "fleet_pair")


def tiers(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return some tiers, with room for few to all."""
    names = ("host_memory", "local_store", "remote_store")
    some = [name for name in names if rng.random() < 0.6] or ["host_memory"]
    return [
        {"where": name, "capacity": f"{BYTES_PER_TOKEN * BLOCK * int(rng.choice([1, 20, 1000, 1000]))} B",
         "store": str(rng.choice(["when_evicted", "when_evicted", "when_computed"])),
         "load": str(rng.choice(["always", "always", "when_faster"]))}
        for name in some
    ]  # fmt: skip


def write_trace(path: Path, rng: np.random.Generator, num: int) -> None:
    """Write requests whose inputs are walks in a small random trie of blocks of `BLOCK` tokens."""
    parents = [-1]
    for node in range(1, 120):
        parents.append(int(rng.integers(max(-1 if node < 4 else 0, node - 40), node)))
    rows, now = [], 0.0
    for _ in range(num):
        route, at = [], int(rng.integers(len(parents)))
        while at >= 0:
            route.append(at)
            at = parents[at]
        now += float(rng.exponential(rng.choice([1, 30])))
        length = len(route) * BLOCK - int(rng.integers(0, BLOCK))
        rows.append({"timestamp": now, "input_length": length, "output_length": int(rng.integers(1, 40)),
                     "hash_ids": route[::-1]})  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def scenario(rng: np.random.Generator, shape: str, folder: Path) -> Scenario:
    """Return a deployment, or a pair that prefills and decodes, with tiers, and requests that begin alike."""
    paired = shape.endswith("pair")
    deployment = {
        "name": "serve", "model": "llama-3.1-8b", "on": "pool", "replicas": int(rng.integers(1, 3)),
        "router": str(rng.choice(list(kinds("router")))), "serving_engine": toy_tasks.ENGINE,
        "scheduler": {"kind": "chunked_prefill", "max_num_seqs": int(rng.integers(1, 9)),
                      "token_budget": int(rng.choice([5, 50, 10000]))},
    }  # fmt: skip
    deployments = [deployment | {"kv_tiers": tiers(rng)}]
    if paired:
        when = str(rng.choice(["layer_by_layer", "at_the_end"]))
        deployments = [
            deployment | {"name": "prefill", "kv_tiers": tiers(rng)},
            deployment | {"prefill_by": "prefill", "kv_transfer": {"when": when}},
        ]
    lengths = {name: {"kind": "uniform", "low": 1, "high": high} for name, high in
               (("input", 40), ("thinking", 20), ("answer", 30))}  # fmt: skip
    workload: dict[str, Any] = {
        "name": "asks",
        "to": "serve",
        "num_requests": int(rng.integers(1, 20 if "tasks" in shape else 60)),
    }
    if shape in ("trace", "pair"):
        path = folder / "trace.jsonl"
        write_trace(path, rng, 2 * workload.pop("num_requests"))
        workload["trace"] = {"path": str(path), "block_tokens": BLOCK}
    else:
        workload |= {
            "arrivals": {"kind": "poisson", "rate": f"{rng.choice([30, 200])} req/s"},
            "lengths": {"kind": "independent", **lengths},
        }
    if shape == "shared":
        workload["prefix"] = {
            "kind": "shared_system_prompt",
            "num_prompts": int(rng.integers(1, 9)),
            "tokens": 177,
        }
    if shape.startswith("tasks"):
        kind = str(rng.choice(["conversation", "agent", "revise", "tree_search"]))
        strategy = toy_tasks.draw_strategy(rng, kind, 0)
        plain = any(word in str(strategy) for word in ("small", "check"))
        workload["tasks"] = {"strategy": {"kind": "vote", "n": 3} if plain else strategy, "accuracy": 0.3}
    store = {"remote_store_total": "9 GB/s"} if rng.random() < 0.5 else {}
    return Scenario.model_validate(
        {
            "name": "toy", "warm_up": "none", "seed": int(rng.integers(1 << 30)),
            "fleet": [{"site": "us-iowa",
                       "clusters": [{"name": "pool", "node": "hgx-h100", "count": 2, **store}]}],
            "deployments": deployments, "workloads": [workload],
        }
    )  # fmt: skip


def mix(seed: int, shape: str, folder: Path) -> toy_tasks.Mix:
    """Return a mix that is tight in KV blocks and in the room of its tiers."""
    rng = np.random.default_rng(seed)
    if shape.startswith("fleet"):
        made = toy_fleet.mix(seed, "tasks_pair" if "pair" in shape else "tasks")
        first = made.scenario.deployments[0]
        data = {"kv_tiers": tiers(rng)}
        with_tiers = type(first).model_validate({**first.model_dump(by_alias=True), **data})
        deployments = [with_tiers, *made.scenario.deployments[1:]]
        return toy_tasks.Mix(
            made.scenario.model_copy(update={"deployments": deployments}),
            BLOCK,
            made.num_blocks,
            made.steps,
            False,
        )
    drawn = scenario(rng, shape, folder)
    size = BLOCK if shape in ("trace", "pair") else 4
    blocks = [int((20 if size == BLOCK else 70) * rng.choice([1, 1, 1.5, 5])) for _ in drawn.deployments]
    steps = toy.Steps(*rng.uniform(1, 2000, 2), tuple(rng.uniform(0, 3, 4)), *rng.uniform(0, 30, 2))
    return toy_tasks.Mix(drawn, size, blocks, steps, exact=False)


def assert_same(runs: toy_tasks.Played, steps: toy_tasks.Played) -> None:
    for name in TIMES:
        np.testing.assert_allclose(runs.rows[name], steps.rows[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for name in COUNTS:
        np.testing.assert_array_equal(runs.rows[name], steps.rows[name], err_msg=name)
    for name in ("request", "tier", "tokens", "used_tokens"):
        mine, other = (played.world.kv_loads.column(name) for played in (runs, steps))
        np.testing.assert_array_equal(mine, other, err_msg=f"loads: {name}")


@pytest.mark.parametrize("shape", SHAPES)
def test_runs_equal_steps_and_nothing_is_lost(shape: str, tmp_path: Path) -> None:
    @settings(max_examples=25)
    @given(st.integers(0, 2**32 - 1))
    def run(seed: int) -> None:
        made = mix(seed, shape, tmp_path)
        runs, steps = toy_tasks.play(made), toy_tasks.play(made, "stepwise")
        check(runs)
        check(steps)
        assert_same(runs, steps)

    run()


def test_the_mixes_load_evict_hand_down_and_load_in_vain(tmp_path: Path) -> None:
    worlds = [toy_tasks.play(mix(seed, SHAPES[seed % 5], tmp_path)).world for seed in range(60)]

    def share(what: list[Any]) -> float:
        return float(np.mean([bool(np.any(each)) for each in what]))

    loads = [world.kv_loads for world in worlds]
    assert share([each.num for each in loads]) > 0.25
    assert share([each.column("used_tokens") for each in loads]) > 0.25
    assert share([each.column("used_tokens") < each.column("tokens") for each in loads]) > 0.2
    assert share([len(set(each.column("tier"))) > 1 for each in loads]) > 0.02
    sources = [[source for source, _ in world.fronts[0].offload.stored_bytes] for world in worlds]
    assert share([[source != "accelerators" for source in each] for each in sources]) > 0.1
