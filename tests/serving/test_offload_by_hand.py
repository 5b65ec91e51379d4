"""KV in slower tiers, by hand: what is stored comes back, over the link it lies behind, and is forgotten in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import toy_tasks
from toy_tiers import BLOCK, BYTES_PER_TOKEN, check

from clustersim.records import CANCELLED, FINISHED
from clustersim.scenario.schema import Scenario
from clustersim.simulation.removal import cancel as cancel_request
from clustersim.simulation.world import World


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
