"""The radix tree of inputs says what the trie of their nodes does, with fewer parts."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clustersim.workload.prefix_kinds import SharedTokens
from clustersim.workload.prefixes import Prefixes, paths, trie
from clustersim.workload.radix import Radix, radix

ROWS = st.lists(st.lists(st.integers(0, 2), max_size=7), max_size=12)


def table(rows: list[list[int]], seed: int = 0) -> Prefixes:
    """Return rows of ids as paths of nodes with random tokens."""
    ids = np.array([item for row in rows for item in row], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    nodes, parent = trie(ids, offsets)
    tokens = np.random.default_rng(seed).integers(1, 40, len(parent))
    return Prefixes(offsets, nodes, parent, tokens)


def node_ends(made: Radix, row: int) -> list[int]:
    """Return the ends of all nodes that a row passes."""
    return [int(end) for edge in made.path(row) for end in nodes_of(made, edge)]


def nodes_of(made: Radix, edge: int) -> np.ndarray:
    """Return the ends of the nodes of an edge."""
    return made.node_ends[made.first[edge] : made.last[edge] + 1]


@given(ROWS, st.integers(0, 2**32 - 1))
def test_edges_in_a_row_are_its_nodes_in_a_row(rows: list[list[int]], seed: int) -> None:
    prefixes = table(rows, seed)
    made = radix(prefixes)
    for row in range(len(rows)):
        assert node_ends(made, row) == np.cumsum(prefixes.tokens_per_node[prefixes.of(row)]).tolist()
        assert [made.ends[edge] for edge in made.path(row)] == [
            int(nodes_of(made, edge)[-1]) for edge in made.path(row)
        ]


@given(ROWS)
def test_rows_share_the_edges_of_what_they_share(rows: list[list[int]]) -> None:
    """What two inputs have in common, the last node of either apart, is a number of whole edges."""
    prefixes = table(rows)
    made = radix(prefixes)
    for one in range(len(rows)):
        for other in range(one):
            mine, theirs = made.path(one), made.path(other)
            same = sum(a == b for a, b in zip(mine, theirs, strict=False))
            assert mine[:same] == theirs[:same]
            nodes = np.count_nonzero(
                [a == b for a, b in zip(prefixes.of(one), prefixes.of(other), strict=False)]
            )
            shared = sum(len(nodes_of(made, edge)) for edge in mine[:same])
            assert shared == nodes


@given(ROWS)
def test_no_two_edges_could_be_one(rows: list[list[int]]) -> None:
    """An edge ends where inputs part, or before or after the last node of an input."""
    prefixes = table(rows)
    made = radix(prefixes)
    follows: dict[int, set[int]] = {}
    lasts = {int(prefixes.of(row)[-1]) for row in range(len(rows)) if rows[row]}
    for row in range(len(rows)):
        path = made.path(row)
        for edge, after in itertools.pairwise(path):
            follows.setdefault(edge, set()).add(after)
    for edge, after in follows.items():
        last_node = made.last[edge]
        ends_some = int(prefixes.nodes[last_node]) in lasts
        assert len(after) > 1 or ends_some or after & lasts


def test_pieces_of_prompts_are_edges() -> None:
    pieces = SharedTokens(parent=np.array([-1, 0, 0, 1]), tokens=np.array([10, 20, 30, 40]))
    made = radix(paths(pieces))
    assert [node_ends(made, row) for row in range(4)] == [[10], [10, 30], [10, 40], [10, 30, 70]]
    assert made.path(3)[:2] == made.path(1)
