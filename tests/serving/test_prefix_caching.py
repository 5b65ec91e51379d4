"""A replica's prefix cache finds what a plain LRU of blocks finds; on Mooncake's trace that is what is published."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import toy
import toy_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.scenario.schema import Scenario
from clustersim.simulation import prefixes
from clustersim.workload import read_trace
from clustersim.workload.prefixes import Prefixes, ideal_hit_frac, recorded
from clustersim.workload.radix import Radix

REAL = Path(__file__).parents[3] / "shared" / "traces" / "mooncake_conversation.jsonl"
BLOCK = 16


def write(path: Path, seed: int, num: int, gap_ms: float) -> None:
    """Write requests whose inputs are walks in a random trie, and end with a part of a block that is their own."""
    rng = np.random.default_rng(seed)
    parents = [-1, *(int(rng.integers(max(-1, node - 15), node)) for node in range(1, 60))]
    rows = []
    for row in range(num):
        route, at = [], int(rng.integers(len(parents)))
        while at >= 0:
            route.append(at)
            at = parents[at]
        length = len(route) * BLOCK + int(rng.integers(1, BLOCK))
        rows.append({"timestamp": row * gap_ms, "input_length": length, "output_length": int(rng.integers(1, 30)),
                     "hash_ids": [*route[::-1], 1000 + row]})  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def scenario(path: Path, block_tokens: int, **scheduler: int) -> Scenario:
    """Return one replica that replays a trace."""
    return toy.scenario(
        deployment={"serving_engine": toy_tasks.ENGINE, "scheduler": {"kind": "chunked_prefill", **scheduler}},
        workload={"trace": {"path": str(path), "block_tokens": block_tokens}, "lengths": None, "arrivals": None,
                  "num_requests": None},
    )  # fmt: skip


def plain_lru(table: Prefixes, inputs: np.ndarray, outputs: np.ndarray, blocks: int, size: int) -> np.ndarray:
    """Return the tokens (n,) that requests, one after another, find in a cache of so many blocks.

    A node at a time: those of a request are used until it ends, then idle, its last node first; what is idle gives way
    to what is in use.
    """
    idle: OrderedDict[int, int] = OrderedDict()
    hits = []
    for row, (tokens, output) in enumerate(zip(inputs.tolist(), outputs.tolist(), strict=True)):
        nodes = table.of(row).tolist()
        ends = np.cumsum(table.tokens_per_node[nodes])
        nodes = nodes[: int(np.searchsorted(ends, tokens - 1, side="right"))]
        found = 0
        while found < len(nodes) and nodes[found] in idle:
            found += 1
        hits.append(int(ends[found - 1]) if found else 0)
        for node in nodes[:found]:
            del idle[node]
        used = -(-(tokens + output - 1) // size)
        while used + sum(idle.values()) > blocks:
            idle.popitem(last=False)
        for node in reversed(nodes):
            idle[node] = int(table.tokens_per_node[node]) // size
    return np.array(hits)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_hits_are_those_of_a_plain_lru_of_blocks(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("lru") / "trace.jsonl"
    write(path, seed, 80, 1000.0)
    trace = read_trace(path, block_tokens=BLOCK)
    longest = -(-int((trace.input_tokens + trace.output_tokens).max()) // BLOCK)
    blocks = int(longest * np.random.default_rng(seed).choice([1, 1.5, 3, 10]))
    played = toy_tasks.play(toy_tasks.Mix(scenario(path, BLOCK), BLOCK, [blocks], exact=False))
    expected = plain_lru(recorded(trace), trace.input_tokens, trace.output_tokens, blocks, BLOCK)
    np.testing.assert_array_equal(played.rows["cached_tokens"], expected)


def by_nodes(table: Prefixes) -> Radix:
    """Return a tree whose every node is an edge."""
    ends = np.concatenate([np.cumsum(table.tokens_per_node[table.of(row)]) for row in range(len(table))])
    places = np.zeros(len(table.parent), dtype=np.int64)
    places[table.nodes] = np.arange(len(table.nodes))
    node_ends = ends.astype(np.int64)
    return Radix(
        table.offsets.tolist(), table.nodes.tolist(), node_ends[places].tolist(), node_ends,
        places.tolist(), places.tolist(),
    )  # fmt: skip


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_edges_that_are_cut_are_as_good_as_nodes(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Chains put together, computed and evicted piece by piece, change nothing in a cache that is tight."""
    path = tmp_path_factory.mktemp("nodes") / "trace.jsonl"
    rng = np.random.default_rng(seed)
    write(path, seed, 60, float(rng.choice([2, 20])))
    mix = toy_tasks.Mix(
        scenario(path, BLOCK, max_num_seqs=int(rng.integers(1, 9)), token_budget=int(rng.choice([7, 40, 8192]))),
        int(rng.choice([1, 4, 16])), [0], exact=False,
    )  # fmt: skip
    mix = dataclasses.replace(mix, num_blocks=[int(400 // mix.block_size * rng.choice([1, 1.5, 4]))])
    edges = toy_tasks.play(mix)
    with mock.patch.object(prefixes, "radix", by_nodes):
        nodes = toy_tasks.play(mix)
    for name in ("cached_tokens", "scheduled_s", "finish_s", "num_preemptions"):
        np.testing.assert_array_equal(edges.rows[name], nodes.rows[name], err_msg=name)


@pytest.mark.skipif(not REAL.exists(), reason="Mooncake's trace is not in ../shared")
@pytest.mark.parametrize(
    ("millions", "published"), [(1, 0.056), (4, 0.185), (16, 0.342), (1000, 0.3736)], ids=str
)
def test_mooncakes_trace_has_the_published_hits(millions: float, published: float) -> None:
    """One request at a time in a cache of some million tokens. Published: llmtrafficlens of this trace; 37.36 % is its
    ceiling. Requests hold their own tokens and outputs too, which a bare LRU of hashes does not count."""
    trace = read_trace(REAL)
    steps = toy.Steps(1e-3, 0.0, (0, 0, 0, 0), 0.0)  # as good as no time
    mix = toy_tasks.Mix(
        scenario(REAL, 512, max_num_seqs=1), 512, [int(millions * 1e6 / 512)], steps, exact=False
    )
    rows = toy_tasks.play(mix).rows
    found = rows["cached_tokens"].sum() / rows["input_tokens"].sum()
    assert found <= ideal_hit_frac(recorded(trace), trace.input_tokens)
    assert found == pytest.approx(published, abs=0.001)
