"""Beginnings that inputs of a workload have in common, as prefixes in the caches of replicas.

A node of the workload's table (see workload.prefixes) is a prefix on each replica that has seen it. Only whole blocks
are shared, and of every input one token at least is computed, as engines do to make the first output token. KV of
different LoRA adapters is different.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from clustersim.serving.kv_cache import Prefix
from clustersim.serving.sharing import resident
from clustersim.workload.prefixes import Prefixes


class Beginnings:
    """The prefixes of one workload's inputs, replica by replica."""

    def __init__(self, table: Prefixes, first_key: int) -> None:
        self.table = table
        self.first_key = first_key
        """Keys of its nodes are numbers from here on: another workload's nodes are others."""
        self._known: dict[tuple[int, int, int], Prefix] = {}
        """(replica, adapter, node) -> its prefix there."""
        self._paths: dict[int, tuple[list[int], list[int]]] = {}

    def path(self, row: int) -> tuple[list[int], list[int]]:
        """Return the nodes of a row and the tokens of an input up to the end of each."""
        found = self._paths.get(row)
        if found is None:
            nodes = self.table.of(row)
            found = self._paths[row] = nodes.tolist(), np.cumsum(self.table.tokens_per_node[nodes]).tolist()
        return found

    def prefix(
        self, row: int, adapter: int, input_tokens: int, replica: int, block_size: int
    ) -> Prefix | None:
        """Return what an input rests on at a replica, made where there is none; None for less than a block."""
        nodes, ends = self.path(row)
        depth = bisect_right(ends, input_tokens - 1)
        known, missing = None, depth
        while missing and known is None:
            missing -= 1
            known = self._known.get((replica, adapter, nodes[missing]))
        if known is not None:
            missing += 1
        for at in range(missing, depth):
            tokens = ends[at] // block_size * block_size
            if tokens > (known.tokens if known else 0):
                key = (self.first_key + nodes[at], adapter)
                known = Prefix(known, key)
                known.tokens = tokens
            if known is not None:
                self._known[replica, adapter, nodes[at]] = known
        return known

    def cached(self, row: int, adapter: int, input_tokens: int, replica: int) -> int:
        """Return the tokens of an input that are in a replica's cache."""
        nodes, ends = self.path(row)
        for at in range(bisect_right(ends, input_tokens - 1) - 1, -1, -1):
            known = self._known.get((replica, adapter, nodes[at]))
            if known is not None:
                found = resident(known)
                return found.tokens if found else 0
        return 0
