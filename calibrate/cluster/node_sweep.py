"""Benchmarks of one device on all devices at once: what each sustains under full load, and which one lags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibrate.benches import PlanName
from calibrate.case import Case, Samples
from calibrate.cluster.task import Part, Task
from calibrate.statistics import Interval, median_interval
from calibrate.timing import Rule

#: What tells a slow device: its arithmetic and its memory.
BENCHES = ("gemm_peak", "gemm", "membw")
_CASES_A_BENCH: Mapping[PlanName, int] = {"quick": 1, "default": 4, "full": 16}
#: A straggler's median is above the group's by this factor, its interval apart from theirs.
STRAGGLER = 1.05


def sweep_cases(plan: PlanName) -> list[Case]:
    """Return the cases most worth measuring on this process's device (called on a rank)."""
    from calibrate.backends import pick_backend
    from calibrate.benches import benches

    backend, found = pick_backend(None, 1), list[Case]()
    for name, bench in benches().items():
        if name in BENCHES:
            found += bench.cases(plan, backend)[: _CASES_A_BENCH[plan]]
    return found


def sweep_tasks(cases: Sequence[Case], ranks: Sequence[str], rule: Rule) -> list[Task]:
    """Return each case as one task on all ranks at once; the path of a rank's case is its name."""
    return [Task(tuple(Part(replace(case, path=rank), (rank,)) for rank in ranks), rule) for case in cases]


def measure_case(case: Case, rule: Rule, *, node: str, rank: int) -> dict[str, Any]:
    """Time a case on this process's device and return its Samples as plain data (called on a rank)."""
    from calibrate.backends import pick_backend
    from calibrate.benches import benches
    from calibrate.timing import measure

    backend = pick_backend(None, 1)
    call = benches()[case.bench].prepare(replace(case, path=""), backend)
    samples = measure(case, call, backend, rule, node=node)
    return replace(samples, rank=rank).as_dict()


@dataclass(frozen=True)
class Spread:
    """One case over all devices."""

    case: Case
    median_s: float
    """Of the devices' medians."""
    by_rank_s: Mapping[str, float]
    stragglers: tuple[str, ...]
    """Devices slower than `STRAGGLER` times the group, beyond doubt of the intervals."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, one entry of cluster.yaml."""
        return {
            "bench": self.case.bench, "op": self.case.op, "dtype": self.case.dtype, "shape": dict(self.case.shape),
            "median_s": self.median_s, "by_rank_s": dict(self.by_rank_s), "stragglers": list(self.stragglers),
        }  # fmt: skip


def spreads(samples: Sequence[Samples]) -> list[Spread]:
    """Return each swept case over the devices that measured it."""
    grouped: dict[str, list[Samples]] = {}
    for each in samples:
        if each.case.bench in BENCHES:
            grouped.setdefault(replace(each.case, path="").key, []).append(each)
    return [_spread(group) for group in grouped.values()]


def _spread(group: Sequence[Samples]) -> Spread:
    medians = {each.case.path: float(np.median(each.seconds)) for each in group}
    middle = float(np.median(list(medians.values())))
    intervals = {each.case.path: _interval(each.seconds) for each in group}
    others = sorted(medians, key=lambda rank: abs(medians[rank] - middle))
    typical = intervals[others[0]]
    slow = [
        rank
        for rank, median in medians.items()
        if median > STRAGGLER * middle and intervals[rank][0] > typical[1] and len(medians) > 1
    ]
    return Spread(replace(group[0].case, path=""), middle, medians, tuple(sorted(slow)))


def _interval(seconds: Sequence[float]) -> Interval:
    return median_interval(seconds) or (min(seconds), max(seconds))
