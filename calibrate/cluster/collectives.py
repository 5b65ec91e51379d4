"""Collectives over groups of ranks: all_reduce, all_gather, reduce_scatter, all_to_all, barrier.

Sizes are nccl-tests': what all_gather ends with, reduce_scatter starts with, each rank holds in all_to_all. A
sample is the time of the slowest rank. On NCCL each is measured with the library's free choice (the collective)
and with the ring forced (shape ring=1: the link), since a tree between two nodes can exceed one link's rate
(nccl-tests issue 196).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from calibrate.benches import PlanName
from calibrate.case import Case
from calibrate.cluster.nodes import Node
from calibrate.cluster.task import DRAIN_BYTES, DRAINED_FROM, Pace, Part, Task
from calibrate.timing import Rule

OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier")
KIB, MIB = 2**10, 2**20
_SIZES: Mapping[PlanName, tuple[int, ...]] = {
    "quick": (KIB, 16 * KIB, 256 * KIB, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 64 * MIB),
    "default": tuple(2**k for k in (10, 12, 14, 16, 18, 20, 21, 22, 23, 24, 26, 28)),
    "full": tuple(2**k for k in range(10, 31)),
}  # fmt: skip
_ALWAYS_TO = 8 * MIB
#: Short collectives are timed back to back, so that ranks that leave a barrier at different times weigh less.
_SAMPLE_S, _MOST_CALLS = 0.02, 50
RING = {"NCCL_ALGO": "Ring"}


def groups_of(nodes: Sequence[Node]) -> list[tuple[str, tuple[str, ...]]]:
    """Return groups by label "nodes x ranks a node": in one node, one rank a node, whole nodes; 2, 4, 8, ..., all."""
    per_node = min((node.num_ranks for node in nodes), default=0)
    shapes = [(1, k) for k in _powers(per_node)]
    shapes += [(k, each) for k in _powers(len(nodes)) for each in sorted({1, per_node})]
    found = {}
    for num_nodes, each in shapes:
        ranks = tuple(name for node in nodes[:num_nodes] for name in node.rank_names[:each])
        who = hashlib.blake2b(" ".join(ranks).encode(), digest_size=3).hexdigest()
        found[ranks] = (f"{num_nodes}x{each}@{who}", ranks)
    return list(found.values())


def _powers(most: int) -> list[int]:
    return sorted(
        {*(2**k for k in range(1, most.bit_length()) if 2**k <= most), *([most] if most > 1 else [])}
    )


def collective_tasks(
    nodes: Sequence[Node], plan: PlanName, rule: Rule, *, nccl: bool, ops: Sequence[str] = OPS
) -> list[Task]:
    """Return every collective to measure over the nodes there are; with NCCL those of the forced ring last."""
    tasks = []
    for ring in (0, 1) if nccl else (0,):
        for label, ranks in groups_of(nodes):
            for op in ops:
                if op not in OPS or (ring and op != "all_reduce"):
                    continue
                for size in (0,) if op == "barrier" else _SIZES[plan]:
                    shape = {
                        "bytes": size,
                        **({"drained": 1} if size >= DRAINED_FROM else {}),
                        **({"ring": 1} if ring else {}),
                    }
                    case = Case("collective", op, "fp32", shape, len(ranks), label, "warm")
                    tasks.append(Task((Part(case, ranks),), rule, RING if ring else {}, size > _ALWAYS_TO))
    return tasks


def operation(
    dist: Any, torch: Any, device: str, op: str, size: int, group: Any, ranks: int
) -> Callable[[], Any]:
    """Return one collective on fp32 of `size` bytes, rounded up to what divides among the ranks."""
    count = max(1, math.ceil(size / 4 / ranks)) * ranks
    if op == "barrier":
        return lambda: dist.barrier(group)
    whole = torch.ones(count, dtype=torch.float32, device=device)
    if op == "all_reduce":
        # Of zeros, so that adding up again and again stays finite.
        whole.zero_()
        return lambda: dist.all_reduce(whole, group=group)
    if op == "all_gather":
        part = torch.ones(count // ranks, dtype=torch.float32, device=device)
        return lambda: dist.all_gather_into_tensor(whole, part, group=group)
    if op == "reduce_scatter":
        part = torch.ones(count // ranks, dtype=torch.float32, device=device)
        return lambda: dist.reduce_scatter_tensor(part, whole, group=group)
    if op == "all_to_all":
        other = torch.empty_like(whole)
        return lambda: dist.all_to_all_single(other, whole, group=group)
    raise ValueError(f"no collective {op!r}")


def collective(
    dist: Any, torch: Any, device: str, case: Case, ranks: Sequence[int], rule: Rule, sync: Callable[[], None],
    group: Any,
) -> tuple[list[float], int]:  # fmt: skip
    """Time a collective on all its ranks; the first returns seconds a call of the slowest rank, and calls a sample."""
    call = operation(dist, torch, device, case.op, case.shape["bytes"], group, len(ranks))
    drain = (
        operation(dist, torch, device, case.op, DRAIN_BYTES, group, len(ranks))
        if case.shape.get("drained")
        else None
    )
    first, leads = ranks[0], dist.get_rank() == ranks[0]
    word = torch.zeros(1, dtype=torch.int64, device=device)
    pace, own, calls, wanted = Pace(rule), list[float](), 1, 1
    while True:
        if leads:
            if pace.sampling_since is None and pace.warm_ups and own[-1] < _SAMPLE_S and not drain:
                wanted = min(_MOST_CALLS, math.ceil(_SAMPLE_S / own[-1]))
            word[0] = wanted if pace.goes_on() else 0
        dist.broadcast(word, first, group=group)
        sync()
        if not int(word[0]):
            break
        calls = int(word[0])
        if drain:
            drain()
        dist.barrier(group)
        sync()
        began = time.perf_counter()
        for _ in range(calls):
            call()
        sync()
        own.append((time.perf_counter() - began) / calls)
        pace.took(own[-1])
    if leads:
        word[0] = len(pace.seconds)
    dist.broadcast(word, first, group=group)
    # Every rank kept all its times; those of the warm-up, which the first rank knows, come first.
    slowest = torch.tensor(own[len(own) - int(word[0]) :], dtype=torch.float64, device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX, group=group)
    sync()
    return (slowest.tolist() if leads else []), calls
