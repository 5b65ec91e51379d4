"""What inputs have in common at their beginning: a global trie of blocks, from a trace or from shared prompts.

A node of the trie is a piece of input after all that lies before it, so two requests that name the same node have
the same tokens up to its end, and its KV serves both. A simulator needs no tokens: it keeps node numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clustersim.errors import InputError
from clustersim.randomness import stream
from clustersim.workload.arrays import IntArray
from clustersim.workload.lengths.trace import TraceLengths
from clustersim.workload.prefix_kinds import SharedTokens
from clustersim.workload.traces import Trace
from clustersim.workload.workload import Workload

if TYPE_CHECKING:
    from clustersim.workload.generate import Requests


@dataclass(frozen=True)
class Prefixes:
    """n inputs as paths in a trie of k nodes.

    Input i begins with nodes[offsets[i]:offsets[i + 1]], from the root down; offsets is (n + 1,). parent (k,) is the
    node before, -1 at the root, and always a lower number. tokens_per_node (k,) is how long each is.
    """

    offsets: IntArray
    nodes: IntArray
    parent: IntArray
    tokens_per_node: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, row: int) -> IntArray:
        """Return the nodes of one input, a view; none for -1."""
        return self.nodes[self.offsets[row] : self.offsets[row + 1]] if row >= 0 else self.nodes[:0]

    def take(self, rows: IntArray) -> Prefixes:
        """Return the inputs (m,) named by rows of this, in their order; -1 for one that shares nothing."""
        if len(rows) == len(self) and (rows == np.arange(len(self))).all():
            return self
        known = rows >= 0
        starts = np.where(known, self.offsets[rows], 0)
        counts = np.where(known, np.diff(self.offsets)[rows] if len(self) else 0, 0)
        offsets = np.append(0, np.cumsum(counts))
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        return Prefixes(offsets, self.nodes[places], self.parent, self.tokens_per_node)

    def tokens(self) -> IntArray:
        """Return the tokens (n,) of each input that its nodes cover."""
        sums = np.append(0, np.cumsum(self.tokens_per_node[self.nodes]))
        return np.diff(sums[self.offsets])


def prefix_nodes(workload: Workload, requests: Requests, trace: Trace | None, seed: int) -> Prefixes | None:
    """Return what each of n requests begins with, None where nothing says so.

    Where requests come a few at a time, take `prefix_table` once, and its rows by `Requests.prefix`.
    """
    table = prefix_table(workload, trace, seed)
    return None if table is None else table.take(requests.prefix)


def prefix_table(workload: Workload, trace: Trace | None, seed: int) -> Prefixes | None:
    """Return every beginning that the inputs of a workload may have; `Requests.prefix` names rows of it.

    Those of the trace's rows where it has hash_ids and its lengths are used; those of shared prompts where the workload
    has a `prefix`; None without either. Raises InputError where it has both.
    """
    if trace is not None and has_recorded(workload, trace):
        if workload.prefix is not None:
            raise InputError(
                f"{trace.file}: its hash_ids say what inputs have in common; leave out the workload's `prefix`"
            )
        return recorded(trace)
    return None if workload.prefix is None else paths(workload.prefix.pieces(_stream(workload, seed)))


def has_recorded(workload: Workload, trace: Trace | None) -> bool:
    """Say whether the inputs of a workload are rows of a trace with hash_ids."""
    return (
        trace is not None and trace.hash_ids is not None and isinstance(workload.shared_lengths, TraceLengths)
    )


def _stream(workload: Workload, seed: int) -> np.random.Generator:
    return stream(seed, workload.name, "prefix pieces")


def recorded(trace: Trace) -> Prefixes:
    """Return the inputs of a trace's n rows. Its hash_ids must be there.

    A node has as many tokens as its block, the last of an input what is left: if rows differ in that, the least.
    """
    assert trace.hash_ids is not None
    assert trace.hash_offsets is not None
    assert trace.block_tokens is not None
    offsets, size = trace.hash_offsets, trace.block_tokens
    nodes, parent = trie(trace.hash_ids, offsets)
    tokens = np.full(len(parent), size, dtype=np.int64)
    counts = np.diff(offsets)
    rows = np.flatnonzero(counts)
    left = trace.input_tokens[rows] - size * (counts[rows] - 1)
    np.minimum.at(tokens, nodes[offsets[rows + 1] - 1], left)
    return Prefixes(offsets, nodes, parent, tokens)


def paths(pieces: SharedTokens) -> Prefixes:
    """Return an input for each of k pieces: the piece, after all those before it."""
    routes: list[list[int]] = []
    for piece, parent in enumerate(pieces.parent.tolist()):
        routes.append([*(routes[parent] if parent >= 0 else ()), piece])
    offsets = np.cumsum([0, *map(len, routes)], dtype=np.int64)
    nodes = np.array([node for route in routes for node in route], dtype=np.int64)
    return Prefixes(offsets, nodes, pieces.parent, pieces.tokens)


def trie(ids: IntArray, offsets: IntArray) -> tuple[IntArray, IntArray]:
    """Return (nodes (m,), parent (k,)) of the trie of n rows, row i being ids[offsets[i]:offsets[i + 1]].

    A node is an id together with all ids before it in its row; nodes have the shape of `ids`. In Mooncake's traces,
    whose ids are hashes of a block and all before it, nodes and ids are one to one. Rows are walked side by side, a
    depth at a time, and nodes are numbered by depth.
    """
    if len(ids) == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    known, codes = np.unique(ids, return_inverse=True)
    counts = np.diff(offsets)
    longest_first = np.argsort(-counts, kind="stable")
    reaching = np.searchsorted(
        -counts[longest_first], -np.arange(counts.max())
    )  # rows longer than each depth
    nodes = np.empty(len(ids), dtype=np.int64)
    at = np.full(len(counts), -1, dtype=np.int64)
    parents: list[IntArray] = []
    num_nodes = 0
    for depth, reach in enumerate(reaching):
        rows = longest_first[:reach]
        places = offsets[rows] + depth
        keys, found = np.unique((at[rows] + 1) * len(known) + codes[places], return_inverse=True)
        at[rows] = nodes[places] = num_nodes + found
        parents.append(keys // len(known) - 1)
        num_nodes += len(keys)
    return nodes, np.concatenate(parents)


def ideal_hits(prefixes: Prefixes, input_tokens: IntArray) -> IntArray:
    """Return the input tokens (n,) that an infinite cache would have of n requests that come in this order.

    Whatever an earlier request began with is there, as if it were computed at once; of each input a token at least is
    computed, as engines do to make the first output token.
    """
    rows = np.repeat(np.arange(len(prefixes)), np.diff(prefixes.offsets))
    first = np.full(len(prefixes.parent), len(prefixes), dtype=np.int64)
    np.minimum.at(first, prefixes.nodes, rows)
    found = np.where(first[prefixes.nodes] < rows, prefixes.tokens_per_node[prefixes.nodes], 0)
    hits = np.diff(np.append(0, np.cumsum(found))[prefixes.offsets])
    return np.minimum(hits, input_tokens - 1)


def ideal_hit_frac(prefixes: Prefixes, input_tokens: IntArray) -> float:
    """Return the share of all input tokens that `ideal_hits` finds: no cache of these requests can do better."""
    return float(ideal_hits(prefixes, input_tokens).sum() / input_tokens.sum())
