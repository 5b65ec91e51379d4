"""The trie of what inputs begin with, its chains put together: the radix tree of a workload's inputs.

Nodes that are always passed one after another are one edge. A cache that keeps edges, and cuts them only where a node
ends, holds what one that keeps nodes does; Mooncake's inputs of 24 nodes are 2 or 3 edges each.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clustersim.workload.arrays import IntArray
from clustersim.workload.prefixes import Prefixes


@dataclass(frozen=True)
class Radix:
    """n inputs as paths of edges.

    Input i passes edges[offsets[i]:offsets[i + 1]], from the root on; offsets is (n + 1,). An edge is called by its
    first node. ends[edge] are the tokens of an input up to the end of it.
    """

    offsets: list[int]
    edges: list[int]
    ends: list[int]
    node_ends: IntArray = field(repr=False)
    """Tokens up to the end of each node that inputs pass (m,), in their order."""
    first: list[int] = field(repr=False)
    last: list[int] = field(repr=False)
    """Places there of each edge's first and last node."""

    def path(self, row: int) -> list[int]:
        """Return the edges of one input; none for -1."""
        return self.edges[self.offsets[row] : self.offsets[row + 1]] if row >= 0 else []


def radix(table: Prefixes) -> Radix:
    """Return the radix tree of a table. The last node of an input is always an edge, or more than one, of its own.

    So an input that is as long as what it begins with, the end of which is not shared, still passes whole edges.
    """
    nodes, offsets, parent = table.nodes, table.offsets, table.parent
    counts = np.diff(offsets)
    filled = np.flatnonzero(counts)
    tokens = np.append(0, np.cumsum(table.tokens_per_node[nodes]))
    node_ends = tokens[1:] - np.repeat(tokens[offsets[:-1]], counts)
    last = np.zeros(len(parent), dtype=np.bool_)
    last[nodes[offsets[filled + 1] - 1]] = True
    rooted = parent >= 0
    branches = np.bincount(parent[rooted], minlength=len(parent)) != 1
    begins = ~rooted | last
    begins[rooted] |= branches[parent[rooted]] | last[parent[rooted]]
    at = np.flatnonzero(begins[nodes])
    edges = nodes[at]
    closes = np.append(at, len(nodes))[1:] - 1
    columns = np.zeros((3, len(parent)), dtype=np.int64)
    columns[:, edges] = node_ends[closes], at, closes
    ends, first, final = columns.tolist()
    return Radix(np.searchsorted(at, offsets).tolist(), edges.tolist(), ends, node_ends, first, final)
