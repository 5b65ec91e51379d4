"""Where experts lie, and what that leaves to the busiest rank.

Without redundant experts each lies where its number says, popular or not. With them the hottest are copied and all are
packed by load, as expert load balancers do (deepseek-ai/EPLB; vLLM's and SGLang's EPLB): each copy goes to the expert
with the most load a copy, then experts go, the heaviest first, to the least loaded rank that has a place left.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clustersim.randomness import stream

Floats = NDArray[np.float64]
#: Layers drawn to average over: which experts are popular differs from layer to layer, and a step passes many.
_LAYERS = 64


@dataclass(frozen=True)
class Placement:
    """The experts of a layer on `ranks` ranks."""

    ranks: int
    busiest_over_mean: float
    """Load of the busiest rank over the mean of ranks."""
    copies: tuple[tuple[float, int], ...]
    """(Share of the layer's pairs that one copy of an expert gets, copies alike)."""

    def touched(self, tokens: Floats, top_k: int) -> Floats:
        """Return the experts on the mean rank that get at least one of `tokens` tokens, chosen independently."""
        found: Floats = np.zeros_like(tokens)
        for share, alike in self.copies:
            found = found + alike / self.ranks * -np.expm1(tokens * np.log1p(-min(top_k * share, 1 - 1e-12)))
        return found


@lru_cache(maxsize=256)
def place(shares: tuple[float, ...], ranks: int, redundant: int) -> Placement:
    """Return the placement of experts with these shares of a layer's pairs on `ranks` ranks.

    `redundant` copies more than experts fill the ranks evenly. A balancer that finds no use for some of them leaves
    them idle, so that more of them never raise the busiest load.
    """
    if len(set(shares)) == 1 and redundant == 0:
        return Placement(ranks, 1.0, ((shares[0], len(shares)),))
    copies = np.ones(len(shares))
    if redundant == 0:
        return Placement(ranks, scattered(shares, ranks), _alike(np.asarray(shares), copies))
    best, best_copies = np.inf, copies
    if len(shares) % ranks == 0:
        best = scattered(shares, ranks)
    least = -len(shares) % ranks
    for used in range(least, redundant + 1, ranks):
        tried = copied(shares, used)
        load = packed(np.asarray(shares) / tried, tried, ranks)
        if load < best - 1e-12:
            best, best_copies = load, tried
    return Placement(ranks, best, _alike(np.asarray(shares) / best_copies, best_copies))


@lru_cache(maxsize=4096)
def scattered(shares: tuple[float, ...], ranks: int) -> float:
    """Return the busiest rank's load over the mean where experts lie by number, whatever their popularity.

    The mean over `_LAYERS` random orders of the experts.
    """
    if len(set(shares)) == 1:
        return 1.0
    draw = stream(0, "expert_placement", str(len(shares)), str(ranks))
    order = draw.permuted(np.tile(np.arange(len(shares)), (_LAYERS, 1)), axis=1)
    loads = np.asarray(shares)[order].reshape(_LAYERS, ranks, -1).sum(axis=2)
    return float(loads.max(axis=1).mean() * ranks)


def copied(shares: tuple[float, ...], redundant: int) -> Floats:
    """Return how many copies each expert has once `redundant` were added, each where the load a copy is highest."""
    copies = np.ones(len(shares))
    heap = [(-share, expert) for expert, share in enumerate(shares)]
    heapq.heapify(heap)
    for _ in range(redundant):
        _, expert = heap[0]
        copies[expert] += 1
        heapq.heapreplace(heap, (-shares[expert] / copies[expert], expert))
    return copies


def packed(load: Floats, copies: Floats, ranks: int) -> float:
    """Return the busiest rank's load over the mean, of experts with `load` a copy packed by load, places equal."""
    each = np.repeat(load, copies.astype(int))
    places = -(-len(each) // ranks)
    heap = [(0.0, rank, 0) for rank in range(ranks)]
    busiest = 0.0
    for weight in sorted(each.tolist(), reverse=True):
        held, rank, taken = heapq.heappop(heap)
        held, taken = held + weight, taken + 1
        busiest = max(busiest, held)
        if taken < places:
            heapq.heappush(heap, (held, rank, taken))
    return busiest * ranks / float(np.dot(load, copies))


def _alike(load: Floats, copies: Floats) -> tuple[tuple[float, int], ...]:
    each, number = np.unique(np.repeat(load, copies.astype(int)), return_counts=True)
    return tuple(zip(each.tolist(), number.tolist(), strict=True))
