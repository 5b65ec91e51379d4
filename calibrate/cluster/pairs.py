"""Messages between two ranks: every pair alone, then all disjoint pairs of a round at once.

The circle method schedules N names in N - 1 rounds (N odd: N, one name rests in each) of disjoint pairs, so that
all N (N - 1) / 2 links are seen in O(N) moments. The ratio of a message's time together to its time alone is the
contention of the fabric under a permutation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from calibrate.benches import PlanName
from calibrate.case import Case
from calibrate.cluster.nodes import Node
from calibrate.cluster.task import DRAIN_BYTES, DRAINED_FROM, REST_S, Pace, Part, Task
from calibrate.timing import Rule

KIB, MIB = 2**10, 2**20
#: One byte tells the way back of the acknowledgement.
_RESTED = (1, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB)
_DRAINED: Mapping[PlanName, tuple[int, ...]] = {
    "quick": (2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 64 * MIB),
    "default": (2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 64 * MIB, 256 * MIB),
    "full": (2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, 1024 * MIB),
}
#: Largest size that is measured however slow the link is: the slope needs 2 and 8 MiB.
ALWAYS_TO = 8 * MIB
#: Pairs of one round measured alone; the others are known from the round together, and marked.
ALONE_A_ROUND: Mapping[PlanName, int | None] = {"quick": 2, "default": 8, "full": None}
_TOGETHER = 8 * MIB


def round_robin(names: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return rounds of disjoint pairs in which every two names meet once; a pair is in the order of `names`."""
    circle: list[str | None] = [*names, *([None] if len(names) % 2 else [])]
    order = {name: place for place, name in enumerate(names)}
    rounds = []
    for _ in range(len(circle) - 1):
        pairs = []
        for one, other in zip(circle[: len(circle) // 2], reversed(circle[len(circle) // 2 :]), strict=True):
            if one is not None and other is not None:
                pairs.append((one, other) if order[one] < order[other] else (other, one))
        rounds.append(sorted(pairs, key=lambda pair: order[pair[0]]))
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return rounds


def rounds_of(nodes: Sequence[Node]) -> list[list[tuple[str, str]]]:
    """Return rounds between nodes (their first ranks), then rounds inside every node at once."""
    rounds = round_robin([node.rank_names[0] for node in nodes])
    inside = [round_robin(node.rank_names) for node in nodes if node.num_ranks > 1]
    for number in range(max(map(len, inside), default=0)):
        rounds.append([pair for each in inside if number < len(each) for pair in each[number]])
    return [each for each in rounds if each]


def pair_tasks(nodes: Sequence[Node], plan: PlanName, rule: Rule) -> list[Task]:
    """Return every message to measure, small sizes first, round by round."""
    tasks = []
    for pairs in rounds_of(nodes):
        for pair in pairs[: ALONE_A_ROUND[plan]]:
            tasks += [Task((part(pair, size),), rule) for size in _RESTED]
            tasks += [
                Task((part(pair, size, drained=1),), rule, optional=size > ALWAYS_TO)
                for size in _DRAINED[plan]
            ]
        if len(pairs) > 1:
            # All pairs send for the same time, so that none is alone at the end.
            same = Rule(rule.max_s, rule.warm_up_s, 0.0, rule.least_samples)
            for size in (2 * MIB, _TOGETHER):
                tasks.append(
                    Task(tuple(part(pair, size, drained=1, together=len(pairs)) for pair in pairs), same)
                )
    return tasks


def part(pair: tuple[str, str], size: int, **shape: int) -> Part:
    """Return one pair's case of one size."""
    return Part(Case("link", "p2p", "u8", {"bytes": size, **shape}, 2, "-".join(pair), "warm"), pair)


def send(
    dist: Any, torch: Any, device: str, case: Case, ranks: Sequence[int], rule: Rule, sync: Any
) -> list[float]:
    """Time messages of `case.shape["bytes"]` from the first rank to the second and an empty one back, in seconds.

    Before each sample the link is drained by `DRAIN_BYTES` (shape drained=1) or rests for `REST_S`. Both ranks
    call this; the receiver returns no samples.
    """
    (sender, receiver), size = ranks, case.shape["bytes"]
    message = torch.zeros(size, dtype=torch.uint8, device=device)
    drain = torch.zeros(DRAIN_BYTES, dtype=torch.uint8, device=device) if case.shape.get("drained") else None
    word = torch.zeros(1, dtype=torch.uint8, device=device)
    if dist.get_rank() == receiver:
        while True:
            dist.recv(word, sender)
            sync()
            if not int(word[0]):
                return []
            if drain is not None:
                dist.recv(drain, sender)
            dist.send(word, sender)
            dist.recv(message, sender)
            dist.send(word, sender)
            sync()
    pace = Pace(rule)
    while pace.goes_on():
        word[0] = 1
        dist.send(word, receiver)
        if drain is not None:
            dist.send(drain, receiver)
        dist.recv(word, receiver)
        sync()
        if drain is None:
            time.sleep(REST_S)
        began = time.perf_counter()
        dist.send(message, receiver)
        dist.recv(word, receiver)
        sync()
        pace.took(time.perf_counter() - began)
    word[0] = 0
    dist.send(word, receiver)
    sync()
    return pace.seconds


assert min(_DRAINED["quick"]) == DRAINED_FROM
