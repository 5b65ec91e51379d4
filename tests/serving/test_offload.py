"""KV in slower tiers: runs equal steps, blocks and bytes are conserved, and what is stored comes back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import toy_fleet
import toy_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.kinds import kinds
from clustersim.records import CANCELLED, FINISHED, WAITING
from clustersim.scenario.schema import Scenario
from clustersim.simulation.removal import cancel as cancel_request
from clustersim.simulation.world import World

BLOCK = 16
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
BYTES_PER_TOKEN = 131072  # llama-3.1-8b in bf16


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


def check(played: toy_tasks.Played) -> None:
    """Everything is over, and blocks, bytes and tokens are all accounted for."""
    world, rows = played.world, played.rows
    issued = np.isfinite(rows["arrival_s"])
    assert (rows["status"][issued] != WAITING).all()
    for front in world.fronts:
        assert all((load.requests, load.tokens) == (0, 0) for load in front.loads)
        for replica in front.replicas:
            assert (replica.kv.used, replica.kv.num_decoding, replica.context) == (0, 0, 0)
            assert not any([replica.waiting, replica.running, replica.computed, replica._orders])
            assert not replica.sharing.staged
    ran = np.isin(rows["status"], (FINISHED,)) & issued
    assert (rows["cached_tokens"][ran] <= rows["input_tokens"][ran] - 1).all()
    world.flows.check()
    offload = world.fronts[0].offload
    assert offload is not None
    assert not offload.loading
    for shelf in offload.shelves:
        assert not shelf.to_write
        for tier in shelf.tiers:
            assert tier.tokens <= tier.capacity
            assert tier.tokens == sum(end - start for start, end in tier._pieces.values())
    _loads(played)
    if not world.lifecycles:
        _bytes(world)


def _loads(played: toy_tasks.Played) -> None:
    """What was loaded spares no more prefill than was found in cache, and no more than was loaded."""
    loads = {
        name: played.world.kv_loads.column(name) for name in ("request", "tokens", "used_tokens", "end_s")
    }
    assert (loads["used_tokens"] <= loads["tokens"]).all()
    assert (loads["used_tokens"] >= 0).all()
    once = played.rows["num_retries"][loads["request"]] == 0
    used = np.bincount(loads["request"][once], loads["used_tokens"][once], len(played.rows["arrival_s"]))
    assert (used <= played.rows["cached_tokens"]).all()


def _bytes(world: World) -> None:
    """Bytes on the channels of host links, drives and the remote store are those that loads and stores say."""
    front = world.fronts[0]
    offload = front.offload
    assert offload is not None
    expected: Counter[str] = Counter()
    for (source, target), size in offload.stored_bytes.items():
        for what, way in ((source, "out"), (target, "in")):
            expected[f"{what}/{way}"] += size
    finished = np.isfinite(world.kv_loads.column("end_s"))
    for tier, size in zip(
        world.kv_loads.column("tier")[finished], world.kv_loads.column("bytes")[finished], strict=True
    ):
        expected[f"{offload.settings[int(tier)].where}/out"] += size
        expected["accelerators/in"] += size
    carried: Counter[str] = Counter()
    for channel in world.flows.channels:
        parts = channel.name.split("/")
        if len(parts) == 4:  # cluster, node, what, way: of a whole node
            what = parts[2] if parts[2] != "host" else "accelerators"
            way = parts[3] if parts[2] != "host" else {"in": "out", "out": "in"}[parts[3]]
            carried[f"{what}/{way}"] += channel.carried_bytes(world.env.now)
    for name in ("accelerators", "local_store", "remote_store"):
        for way in ("in", "out"):
            key = f"{name}/{way}"
            if way == "in" and name == "accelerators" and not finished.all():
                assert carried[key] >= expected[key] * (1 - 1e-9)  # loads that were given up
            elif finished.all() or way == "in":
                assert carried[key] == pytest.approx(expected[key], rel=1e-9, abs=1.0), key


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


# ---- by hand ---------------------------------------------------------------------------------------------------------


def two_turns(**changes: Any) -> Scenario:
    """Return one replica with tiers that gets an input of 10 blocks, one that pushes it out, and the first again."""
    rows = changes.pop("rows", [(0, 1), (1000, 2), (2000, 1)])
    path: Path = changes.pop("folder") / "turns.jsonl"
    lines = [{"timestamp": at, "input_length": 160, "output_length": changes.pop("output", 1),
              "hash_ids": list(range(100 * topic, 100 * topic + 10))} for at, topic in rows]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return toy.scenario(
        deployment={"serving_engine": toy_tasks.ENGINE, **changes.pop("deployment", {})},
        workload={"trace": {"path": str(path), "block_tokens": BLOCK}, "lengths": None, "arrivals": None,
                  "num_requests": None},
        **changes,
    )  # fmt: skip


def play(scenario: Scenario, blocks: int = 12, steps: Any = None, mode: str = "runs") -> toy_tasks.Played:
    count = len(scenario.deployments)
    return toy_tasks.play(
        toy_tasks.Mix(scenario, BLOCK, [blocks] * count, steps or toy.Steps(), exact=False), mode
    )


def test_what_was_evicted_comes_back_over_the_host_link(tmp_path: Path) -> None:
    tier = {"where": "host_memory", "capacity": "1 GB"}
    drawn = two_turns(folder=tmp_path, deployment={"kv_tiers": [tier]})
    played = play(drawn)
    rows, loads, world = played.rows, played.world.kv_loads, played.world
    # 12 blocks: the second input of 10 leaves 2 of the first, whose last 7 blocks but one went to the host.
    assert rows["cached_tokens"].tolist() == [0, 0, 144]
    assert (loads.request[0], loads.tokens[0], loads.used_tokens[0]) == (2, 112, 112)
    assert loads.bytes[0] == 112 * BYTES_PER_TOKEN
    route = world.network.from_host(world.places[0])
    rate = min(channel.capacity_bytes_per_s for channel, _ in route.hops)
    took = loads.bytes[0] / rate + route.latency_s
    assert loads.end_s[0] - loads.start_s[0] == pytest.approx(took, rel=1e-9)
    assert rows["scheduled_s"][2] - rows["entered_s"][2] == pytest.approx(took, rel=1e-9)
    check(played)


def test_a_tier_lets_go_of_what_does_not_fit_and_the_next_takes_it(tmp_path: Path) -> None:
    names = ("host_memory", "local_store", "remote_store")
    sizes = (2, 3, 100)
    tiers_ = [{"where": name, "capacity": f"{blocks * BLOCK * BYTES_PER_TOKEN} B"}
              for name, blocks in zip(names, sizes, strict=True)]  # fmt: skip
    played = play(two_turns(folder=tmp_path, deployment={"kv_tiers": tiers_}))
    loads = played.world.kv_loads
    assert played.rows["cached_tokens"].tolist() == [0, 0, 144]
    assert (loads.column("tokens") == loads.column("used_tokens")).all()
    found = dict(zip(loads.column("tier").tolist(), (loads.column("tokens") // BLOCK).tolist(), strict=True))
    assert found == {0: 2, 1: 3, 2: 2}, "7 blocks, of which the host keeps the beginning"
    check(played)


@pytest.mark.parametrize(("a_token", "loaded"), [(100, True), (0.1, False)])
def test_what_is_faster_computed_is_not_loaded(tmp_path: Path, a_token: float, loaded: bool) -> None:
    tier = {"where": "host_memory", "capacity": "1 GB", "load": "when_faster"}
    played = play(
        two_turns(folder=tmp_path, deployment={"kv_tiers": [tier]}), steps=toy.Steps(a_token=a_token)
    )
    assert bool(played.world.kv_loads.num) == loaded
    assert played.rows["cached_tokens"][2] == (144 if loaded else 32)


@pytest.mark.parametrize("store", ["when_evicted", "when_computed"])
def test_replicas_find_in_the_remote_store_what_others_computed(tmp_path: Path, store: str) -> None:
    """Nothing is evicted; only what is written as it is computed can be found by the other replica."""
    tier = {"where": "remote_store", "capacity": "1 GB", "store": store}
    drawn = two_turns(folder=tmp_path, rows=[(0, 1), (1000, 1)], deployment={"replicas": 2, "kv_tiers": [tier],
                      "router": "round_robin"})  # fmt: skip
    played = play(drawn, blocks=100)
    assert played.rows["replica"].tolist() == [0, 1]
    assert played.rows["cached_tokens"].tolist() == [0, 144 if store == "when_computed" else 0]


def test_deployments_of_other_kv_share_nothing(tmp_path: Path) -> None:
    tier = {"where": "remote_store", "capacity": "1 GB", "store": "when_computed"}
    drawn = two_turns(folder=tmp_path, deployment={"kv_tiers": [tier]})
    first = drawn.deployments[0]
    same = first.model_copy(update={"name": "same"})
    precision = first.formats.model_copy(update={"kv_cache": "fp8"})
    other = first.model_copy(update={"name": "other", "precision": precision})
    drawn = drawn.model_copy(update={"deployments": [first, same, other]})
    workload = drawn.workloads[0].model_copy(update={"to": "serve"})
    world = play(drawn.model_copy(update={"workloads": [workload]})).world
    stores = [front.offload.shelves[0].tiers[0] for front in world.fronts]
    assert stores[0] is stores[1]
    assert stores[0] is not stores[2]
    assert list(world.kv_stores) == [("pool", "llama-3.1-8b", "bf16"), ("pool", "llama-3.1-8b", "fp8")]


@pytest.mark.parametrize("mode", ["runs", "stepwise"])
@pytest.mark.parametrize("where", ["host_memory", "local_store", "remote_store"])
def test_a_request_whose_replica_died_goes_on_from_saved_kv(tmp_path: Path, where: str, mode: str) -> None:
    """The node fails while the request decodes. Its prompt's KV is in the remote store, if anywhere: memory and drives
    are lost with the replica."""
    tier = {"where": where, "capacity": "1 GB", "store": "when_computed"}
    drawn = two_turns(
        folder=tmp_path, rows=[(0, 1)], output=400, cluster={"count": 1},
        deployment={"kv_tiers": [tier], "startup": {"provision": "1 ms", "warm_up": "1 ms"}},
        failures=[{"kind": "node", "at": ["0.1 s"], "repair": "0.1 s"}],
    )  # fmt: skip
    played = play(drawn, blocks=100, mode=mode)
    rows = played.rows
    assert (rows["num_retries"][0], rows["status"][0]) == (1, FINISHED)
    loads = played.world.kv_loads
    prefilled = played.runs["prefill_tokens"]
    again = prefilled[prefilled > 0][1:].sum()
    if where == "remote_store":
        assert loads.used_tokens[0] == 144
        assert 16 < again < 16 + 400, "the rest of the prompt and the answer so far"
    else:
        assert loads.num == 0
        assert again > 160


@pytest.mark.parametrize("mode", ["runs", "stepwise"])
def test_requests_lost_while_they_load_are_tried_again(tmp_path: Path, mode: str) -> None:
    tier = {"where": "remote_store", "capacity": "1 GB", "store": "when_computed"}
    drawn = two_turns(
        folder=tmp_path, cluster={"count": 1, "remote_store_total": "1 MB/s"},
        deployment={"kv_tiers": [tier], "startup": {"provision": "1 ms", "warm_up": "1 ms",
                    "weights_from": "host_memory"}},
        failures=[{"kind": "node", "at": ["2.1 s"], "repair": "0.1 s"}],
    )  # fmt: skip
    played = play(drawn, mode=mode)
    loads = played.world.kv_loads
    assert played.rows["status"].tolist() == [FINISHED] * 3
    assert played.rows["num_retries"].tolist() == [0, 0, 1]
    assert loads.num == 2
    assert np.isfinite(loads.column("end_s")).tolist() == [False, True]
    check(played)


def at(world: World, time: float, act: Any) -> None:
    world.after(time, lambda _event: act())


def meddled(scenario: Scenario, time: float, act: Any) -> toy_tasks.Played:
    """Play with something done at a time."""
    run = World.run

    def with_act(world: World) -> None:
        at(world, time, lambda: act(world))
        run(world)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "run", with_act)
        return play(scenario)


SLOW = {"remote_store_total": "1 MB/s"}


def test_cancelled_while_it_loads_it_was_never_there(tmp_path: Path) -> None:
    tier = {"where": "remote_store", "capacity": "1 GB", "store": "when_computed"}
    drawn = two_turns(folder=tmp_path, deployment={"kv_tiers": [tier]}, cluster=SLOW)

    def cancel(world: World) -> None:
        assert list(world.fronts[0].offload.loading) == [2]
        cancel_request(world.fronts[0], 2, world.env.now)
        world.left(0, world.env.now)

    played = meddled(drawn, 2.5, cancel)
    rows = played.rows
    assert (rows["status"][2], rows["finish_s"][2], rows["answer_tokens"][2]) == (CANCELLED, 2.5, 0)
    check(played)


def test_a_store_that_fails_is_done_without(tmp_path: Path) -> None:
    tier = {"where": "remote_store", "capacity": "1 GB", "store": "when_computed"}
    drawn = two_turns(folder=tmp_path, deployment={"kv_tiers": [tier]}, cluster=SLOW)
    played = meddled(drawn, 2.5, lambda world: world.network.set_frac("pool/remote_store", 0.0))
    rows = played.rows
    assert (rows["status"][2], rows["cached_tokens"][2]) == (FINISHED, 32)
    assert rows["scheduled_s"][2] == pytest.approx(2.5, abs=0.01)


@pytest.mark.parametrize("kind", ["conversation", "agent"])
def test_tiers_forget_tasks_that_are_over(kind: str) -> None:
    rng = np.random.default_rng(5)
    names = ("host_memory", "remote_store")
    deployment = {
        "max_model_len": 250, "replicas": 2,
        "kv_tiers": [{"where": name, "capacity": "1 GB", "store": "when_computed"} for name in names],
    }  # fmt: skip
    drawn = toy_tasks.tasks_scenario(toy_tasks.draw_strategy(rng, kind, 0), num=20, deployment=deployment)
    played = toy_tasks.play(toy_tasks.Mix(drawn, 4, [100]))
    offload = played.world.fronts[0].offload
    assert offload.stored_bytes
    assert [tier.tokens for shelf in offload.shelves for tier in shelf.tiers] == [0] * 4
    assert not any(tier._pieces for shelf in offload.shelves for tier in shelf.tiers)
