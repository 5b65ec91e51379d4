"""What inputs have in common: the trie of recorded blocks, shared prompts, and the best that a cache can do with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clustersim.errors import InputError
from clustersim.workload import Sampler, Workload, generate, read_trace
from clustersim.workload.prefix_kinds import SharedTokens
from clustersim.workload.prefixes import (
    Prefixes,
    ideal_hit_frac,
    ideal_hits,
    paths,
    prefix_nodes,
    prefix_table,
    recorded,
    trie,
)

REAL = Path(__file__).parents[3] / "shared" / "traces" / "mooncake_conversation.jsonl"
ROWS = st.lists(st.lists(st.integers(-3, 3), max_size=6), max_size=12)


def ragged(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([item for row in rows for item in row], dtype=np.int64),
        np.cumsum([0, *map(len, rows)], dtype=np.int64),
    )


def write(path: Path, rows: list[tuple[int, list[int] | None]], **other: Any) -> str:
    lines = [
        {"timestamp": 100 * index, "input_length": tokens, "output_length": 3}
        | ({} if ids is None else {"hash_ids": ids}) | other
        for index, (tokens, ids) in enumerate(rows)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def workload(**settings: Any) -> Workload:
    base = {"arrivals": {"kind": "poisson", "rate": "5 req/s"}, "num_requests": 500,
            "lengths": {"kind": "fixed", "input": 50, "answer": 20}}  # fmt: skip
    return Workload.model_validate(
        {key: value for key, value in {**base, **settings}.items() if value is not None}
    )


# ---- the trie ------------------------------------------------------------------------------------------------


@given(ROWS)
def test_a_node_is_an_id_after_all_before_it(rows: list[list[int]]):
    ids, offsets = ragged(rows)
    nodes, parent = trie(ids, offsets)
    known: dict[tuple[int, ...], int] = {}
    for number, row in enumerate(rows):
        path = nodes[offsets[number] : offsets[number + 1]].tolist()
        assert len(path) == len(row)
        for depth, node in enumerate(path):
            assert known.setdefault(tuple(row[: depth + 1]), node) == node
            assert parent[node] == (path[depth - 1] if depth else -1)
    assert sorted(known.values()) == list(range(len(parent)))
    assert (parent < np.arange(len(parent))).all()


@given(ROWS, st.integers(1, 5), st.data())
def test_ideal_hits_are_those_of_a_cache_that_forgets_nothing(rows: list[list[int]], size: int, data: Any):
    rows = [[depth * 10 + item for depth, item in enumerate(row)] for row in rows]  # no id twice in a row
    ids, offsets = ragged(rows)
    nodes, parent = trie(ids, offsets)
    last = [data.draw(st.integers(1, size)) for _ in rows]
    inputs = np.array(
        [max(1, size * len(row) - size + rest) for row, rest in zip(rows, last, strict=True)] or [1]
    )
    prefixes = Prefixes(offsets, nodes, parent, np.full(len(parent), size))
    seen: set[tuple[int, ...]] = set()
    for row, tokens, hits in zip(rows, inputs, ideal_hits(prefixes, inputs[: len(rows)]), strict=False):
        begins = [tuple(row[: depth + 1]) for depth in range(len(row))]
        assert hits == min(size * sum(each in seen for each in begins), tokens - 1)
        seen |= set(begins)


def test_rows_are_taken_in_any_order_and_again():
    table = paths(SharedTokens(np.array([-1, 0, 0, 2]), np.array([10, 5, 7, 1])))
    assert [table.of(row).tolist() for row in (0, 1, 2, 3, -1)] == [[0], [0, 1], [0, 2], [0, 2, 3], []]
    assert table.tokens().tolist() == [10, 15, 17, 18]
    taken = table.take(np.array([3, -1, 1, 3]))
    assert [taken.of(row).tolist() for row in range(4)] == [[0, 2, 3], [], [0, 1], [0, 2, 3]]
    assert taken.tokens().tolist() == [18, 0, 15, 18]
    assert ideal_hits(taken, np.array([30, 30, 30, 18])).tolist() == [0, 0, 10, 17]
    assert table.take(np.arange(4)) is table
    empty = Prefixes(*ragged([])[::-1], parent=np.empty(0, np.int64), tokens_per_node=np.empty(0, np.int64))
    assert len(empty.take(np.array([-1, -1]))) == 2


# ---- from traces ---------------------------------------------------------------------------------------------


def test_the_last_block_of_an_input_is_as_long_as_what_is_left(tmp_path: Path):
    path = write(
        tmp_path / "trace", [(1300, [7, 8, 9]), (512, [7]), (1024, [7, 8]), (1300, [7, 8, 9]), (9, None)]
    )
    table = recorded(read_trace(path))
    assert table.tokens().tolist() == [1300, 512, 1024, 1300, 0]
    assert table.tokens_per_node.tolist() == [512, 512, 276]
    assert ideal_hits(table, read_trace(path).input_tokens).tolist() == [0, 511, 1023, 1299, 0]


def test_requests_begin_as_their_rows_do(tmp_path: Path):
    path = write(tmp_path / "trace", [(600, [0, 1]), (1024, [0, 2]), (3, None)])
    trace = read_trace(path)
    replay = workload(arrivals=None, lengths=None, num_requests=None, trace={"path": path})
    prefixes = prefix_nodes(replay, generate(replay, 0), trace, 0)
    assert [prefixes.of(row).tolist() for row in range(3)] == [[0, 1], [0, 2], []]
    again = workload(lengths=None, num_requests=7, trace={"path": path})
    requests = generate(again, 0)
    assert requests.prefix.tolist() == [0, 1, 2, 0, 1, 2, 0]
    prefixes = prefix_nodes(again, requests, trace, 0)
    assert ideal_hits(prefixes, requests.input_tokens).tolist() == [0, 512, 0, 599, 1023, 0, 599]
    shuffled = workload(lengths={"kind": "trace", "order": "random"}, trace={"path": path})
    requests = generate(shuffled, 0)
    assert (requests.prefix == requests.trace_row).all()


def test_lengths_of_their_own_share_nothing_with_a_trace(tmp_path: Path):
    path = write(tmp_path / "trace", [(600, [0, 1]), (1024, [0, 2])])
    mixed = workload(arrivals=None, num_requests=None, trace={"path": path})
    requests = generate(mixed, 0)
    assert requests.prefix.tolist() == [-1, -1]
    assert prefix_nodes(mixed, requests, read_trace(path), 0) is None


def test_blocks_may_have_another_size_and_then_it_must_be_said(tmp_path: Path):
    path = write(tmp_path / "trace", [(40, [1, 2, 3]), (16, [1])])
    with pytest.raises(
        InputError, match=r"trace:1: hash_ids has 3 blocks where 40 input tokens make 1 of 512 tokens"
    ):
        read_trace(path)
    trace = read_trace(path, block_tokens=16)
    assert trace.block_tokens == 16
    assert recorded(trace).tokens_per_node.tolist() == [16, 16, 8]
    replay = workload(lengths=None, trace={"path": path, "block_tokens": 16})
    assert len(generate(replay, 0)) == 500
    with pytest.raises(InputError, match="hash_ids has 3 blocks"):
        generate(workload(lengths=None, trace={"path": path}), 0)
    write(tmp_path / "bare", [(40, None)])
    with pytest.raises(InputError, match="has no hash_ids, so `block_tokens` has no effect"):
        read_trace(tmp_path / "bare", block_tokens=16)
    with pytest.raises(ValidationError, match="greater than 0"):
        workload(trace={"path": path, "block_tokens": 0})


@pytest.mark.parametrize(("tokens", "num"), [(1, 1), (511, 1), (512, 1), (513, 2), (1024, 2), (1025, 3)])
def test_every_full_block_has_an_id_and_one_that_is_not_full_may(tmp_path: Path, tokens: int, num: int):
    for given_ids in range(1, 5):
        path = write(tmp_path / "trace", [(tokens, list(range(given_ids)))])
        if given_ids in (num, tokens // 512):
            assert recorded(read_trace(path)).tokens().tolist() == [min(tokens, 512 * given_ids)]
        else:
            with pytest.raises(InputError, match=rf"trace:1: hash_ids has {given_ids} blocks where"):
                read_trace(path)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ("7", "hash_ids is no list of integers but 7"),
        ('"abc"', "hash_ids is no list of integers but 'abc'"),
        ("null", "hash_ids is no list of integers but None"),
        ('{"a": 1}', "hash_ids is no list of integers but"),
        ("[1.5]", "it has 1.5"),
        ("[true]", "it has True"),
        ('["9"]', "it has '9'"),
        ("[[1]]", r"it has \[1\]"),
        ("[null]", "it has None"),
        ("[9223372036854775808]", "hash id 9223372036854775808 has more than 64 bits"),
        (
            "[1, 2]",
            r"hash_ids has 2 blocks where 512 input tokens make 1 of 512 tokens \(|hash_ids has 2 blocks",
        ),
    ],
)
def test_malformed_hash_ids_are_refused_with_their_line(tmp_path: Path, ids: str, words: str):
    good = '{"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": [4]}\n'
    bad = f'{{"timestamp": 1, "input_length": 512, "output_length": 1, "hash_ids": {ids}}}\n'
    (tmp_path / "trace").write_text(good + "\n" + bad)
    with pytest.raises(InputError, match=rf"trace:3: .*{words}"):
        read_trace(tmp_path / "trace")


def test_a_row_without_ids_is_sound(tmp_path: Path):
    path = write(tmp_path / "trace", [(900, []), (9, [3]), (900, None)])
    trace = read_trace(path)
    assert np.diff(trace.hash_offsets).tolist() == [0, 1, 0]
    assert trace.hash_ids.dtype == trace.hash_offsets.dtype == np.int64


@pytest.mark.skipif(not REAL.exists(), reason="the Mooncake trace is not beside this checkout")
def test_the_real_trace_is_a_trie_by_its_ids_and_has_the_published_ceiling():
    trace = read_trace(REAL)
    assert (np.diff(trace.hash_offsets) == -(-trace.input_tokens // 512)).all(), (
        "every row has all its blocks"
    )
    table = recorded(trace)
    pairs = np.unique(np.stack([trace.hash_ids, table.nodes]), axis=1)
    assert pairs.shape[1] == len(np.unique(trace.hash_ids)) == len(table.parent) == 182_790, "an id is a node"
    np.testing.assert_array_equal(table.tokens(), trace.input_tokens)
    # llmtrafficlens 0.6.2 (pypi.org) prints 37.4 % for an unbounded cache on this file.
    assert ideal_hit_frac(table, trace.input_tokens) == pytest.approx(0.374, abs=5e-4)
    replay = workload(arrivals=None, lengths=None, num_requests=None, trace={"path": str(REAL)})
    np.testing.assert_array_equal(prefix_nodes(replay, generate(replay, 0), trace, 0).nodes, table.nodes)


# ---- shared prompts ------------------------------------------------------------------------------------------

PROMPTS = {
    "kind": "shared_system_prompt",
    "num_prompts": 20,
    "tokens": {"kind": "uniform", "low": 100, "high": 300},
}


def test_prompts_come_before_the_input_and_change_nothing_else():
    plain, shared = generate(workload(), 3), generate(workload(prefix=PROMPTS), 3)
    table = prefix_table(workload(prefix=PROMPTS), None, 3)
    assert len(table) == 20
    assert (table.parent == -1).all()
    np.testing.assert_array_equal(shared.input_tokens - plain.input_tokens, table.tokens()[shared.prefix])
    for name in ("arrival_s", "thinking_tokens", "answer_tokens", "tenant", "adapter"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(shared, name))
    assert (plain.prefix == -1).all()
    assert prefix_nodes(workload(), plain, None, 3) is None


def test_prompts_are_as_popular_as_zipf_says():
    many = workload(prefix=PROMPTS, num_requests=200_000)
    counts = np.bincount(generate(many, 1).prefix, minlength=20) / 200_000
    assert counts == pytest.approx(1 / np.arange(1, 21) / np.sum(1 / np.arange(1, 21)), rel=0.05)
    flat = workload(prefix={**PROMPTS, "zipf_exponent": 0}, num_requests=200_000)
    assert np.bincount(generate(flat, 1).prefix) / 200_000 == pytest.approx([0.05] * 20, rel=0.05)
    given_weights = workload(
        prefix={
            "kind": "shared_system_prompt",
            "num_prompts": 2,
            "tokens": 9,
            "weights": [3, 1],
            "share": 0.4,
        },
        num_requests=200_000,
    )
    drawn = generate(given_weights, 1).prefix
    assert [(drawn == each).mean() for each in (-1, 0, 1)] == pytest.approx([0.6, 0.3, 0.1], abs=0.004)
    inputs = generate(given_weights, 1).input_tokens
    np.testing.assert_array_equal(inputs, np.where(drawn >= 0, 59, 50))


def test_the_ideal_hits_of_prompts_are_all_uses_but_the_first():
    """Closed form: each of the K prompts that are used at all is computed once."""
    shared = workload(prefix=PROMPTS)
    requests = generate(shared, 5)
    prefixes = prefix_nodes(shared, requests, None, 5)
    table = prefix_table(shared, None, 5)
    used = np.bincount(requests.prefix, minlength=20)
    expected = ((used - (used > 0)) * table.tokens()).sum()
    assert ideal_hits(prefixes, requests.input_tokens).sum() == expected
    assert ideal_hit_frac(prefixes, requests.input_tokens) == expected / requests.input_tokens.sum()


def test_how_many_are_drawn_at_a_time_changes_nothing():
    both = workload(prefix=PROMPTS, adapters={"num_adapters": 9, "base_share": 0.2})
    at_once, by_and_by = Sampler(both, 4).draw(300), Sampler(both, 4)
    pieces = [by_and_by.draw(num) for num in (1, 0, 99, 200)]
    for name in ("prefix", "adapter", "input_tokens"):
        np.testing.assert_array_equal(
            getattr(at_once, name), np.concatenate([getattr(p, name) for p in pieces])
        )


def test_a_trace_with_hash_ids_leaves_no_room_for_prompts(tmp_path: Path):
    path = write(tmp_path / "trace", [(600, [0, 1])])
    with pytest.raises(
        InputError, match="its hash_ids say what inputs have in common; leave out the workload's `prefix`"
    ):
        generate(workload(lengths=None, trace={"path": path}, prefix=PROMPTS), 0)
    write(tmp_path / "bare", [(600, None)])
    bare = workload(lengths=None, trace={"path": str(tmp_path / "bare")}, prefix=PROMPTS)
    assert (generate(bare, 0).input_tokens > 600).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "Field required"),
        ({"tokens": 0}, "`tokens` spans 0 to 0; at least 1"),
        ({"tokens": 5, "num_prompts": 0}, "greater than 0"),
        ({"tokens": 5, "zipf_exponent": -1}, "greater than or equal to 0"),
        ({"tokens": 5, "num_prompts": 2, "weights": [1, 2, 3]}, "has 3 `weights` for 2 prompts"),
        ({"tokens": 5, "weights": [0]}, "greater than 0"),
        ({"tokens": 5, "weights": [1], "zipf_exponent": 1}, "both `weights` and `zipf_exponent`"),
        ({"tokens": 5, "share": 0}, "greater than 0"),
        ({"tokens": 5, "share": 1.5}, "less than or equal to 1"),
        ({"tokens": 5, "block": 16}, "block"),
    ],
)
def test_prompts_that_cannot_be_are_refused(settings: dict[str, Any], words: str):
    with pytest.raises(ValidationError) as caught:
        workload(prefix={"kind": "shared_system_prompt", **settings})
    assert words in str(caught.value)
