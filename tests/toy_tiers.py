"""Slower tiers in tests: what must hold of every run."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import toy_tasks

from clustersim.records import FINISHED, WAITING
from clustersim.simulation.world import World

BLOCK = 16
BYTES_PER_TOKEN = 131072  # llama-3.1-8b in bf16


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
