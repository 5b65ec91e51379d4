"""Beginnings that inputs of a workload have in common, as prefixes in the caches of replicas.

An edge of the radix tree of the workload's inputs (see workload.radix) is a prefix on each replica that has seen it,
cut where its nodes end. Only whole blocks are shared, and of every input one token at least is computed, as engines do
to make the first output token. KV of different LoRA adapters is different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property

from clustersim.serving.kv_cache import Prefix
from clustersim.serving.sharing import held
from clustersim.workload.prefixes import Prefixes
from clustersim.workload.radix import Radix, radix


class Beginnings:
    """The prefixes of one workload's inputs, replica by replica. What was seen is never forgotten."""

    def __init__(self, table: Prefixes, first_key: int) -> None:
        self.radix: Radix = radix(table)
        self.first_key = first_key
        """Keys of its edges are numbers from here on: another workload's edges are others."""
        self._known: dict[int, dict[Hashable, Prefix | None]] = {}
        """Replica -> edge, or (edge, adapter) -> its prefix there; None for less than a block."""
        self._whole: dict[int, list[int]] = {}
        """Block size -> radix.node_ends in whole blocks."""
        self._holders: dict[Hashable, list[int]] = {}
        """Edge, or (edge, adapter) -> the replicas that have seen it, of which some still have it."""

    def prefix(
        self, row: int, adapter: int, input_tokens: int, replica: int, block_size: int
    ) -> Prefix | None:
        """Return what an input rests on at a replica, made where there is none; None for less than a block."""
        path = self._shared(row, input_tokens)
        known = self._known.setdefault(replica, {})
        prefix, depth = None, len(path)
        while depth:
            edge = path[depth - 1]
            name = edge if adapter < 0 else (edge, adapter)
            if name in known:
                prefix = known[name]
                break
            depth -= 1
        whole = self._whole.get(block_size) or self._in_blocks(block_size)
        first, last = self.radix.first, self.radix.last
        for edge in path[depth:]:
            name = edge if adapter < 0 else (edge, adapter)
            ends = whole[first[edge] : last[edge] + 1]
            if ends[-1] > (prefix.tokens if prefix else 0):
                prefix = Prefix(prefix, (self.first_key + edge, adapter), ends[-1], ends)
            known[name] = prefix
            if prefix is not None:
                self._holders.setdefault(name, []).append(replica)
        return prefix

    def cached(self, row: int, adapter: int, input_tokens: int, replica: int) -> int:
        """Return the tokens of an input that are in a replica's cache."""
        known = self._known.get(replica)
        if known is not None:
            for edge in reversed(self._shared(row, input_tokens)):
                name = edge if adapter < 0 else (edge, adapter)
                if name in known:
                    return held(known[name])
        return 0

    def holders(self, row: int, adapter: int, input_tokens: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield (most tokens, replicas that may have as many of an input in their caches), the most first."""
        for edge in reversed(self._shared(row, input_tokens)):
            name = edge if adapter < 0 else (edge, adapter)
            yield self.radix.ends[edge], self._holders.get(name, ())

    def key(self, row: int, adapter: int, *, recurs: bool) -> int:
        """Return a number for what an input begins with as others do, -1 for nothing.

        That is the longest beginning that other rows have, too, or the whole row where requests share it (`recurs`).
        """
        for edge in reversed(self.radix.path(row)):
            if recurs or self._passes[edge] > 1:
                return (self.first_key + edge) * 2**20 + adapter + 1
        return -1

    @cached_property
    def _passes(self) -> Counter[int]:
        """Edge -> rows that pass it."""
        return Counter(self.radix.edges)

    def _shared(self, row: int, input_tokens: int) -> list[int]:
        """Return the edges of an input that end before its last token."""
        path, ends = self.radix.path(row), self.radix.ends
        while path and ends[path[-1]] >= input_tokens:
            path.pop()
        return path

    def _in_blocks(self, block_size: int) -> list[int]:
        whole: list[int] = (self.radix.node_ends // block_size * block_size).tolist()
        self._whole[block_size] = whole
        return whole
