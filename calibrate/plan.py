"""A plan: which cases, how often, in which order, and how long it will take.

Cases come from the benchmarks in the order of their worth, a few of each benchmark in turn, so that a plan cut to
its time budget keeps the best of every family. Within a repetition the order is random: a drift of the machine
then falls on all shapes alike and not on the large ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

import numpy as np

from calibrate.benches import PlanName
from calibrate.case import Case, Work
from calibrate.store import Done
from calibrate.timing import Rule


@dataclass(frozen=True)
class Planned:
    """A case of the plan, what one call of it does, and the family of the cost model that it calibrates."""

    case: Case
    work: Work
    family: str | None = None


@dataclass(frozen=True)
class Level:
    """How thorough a plan is."""

    repetitions: int
    """Process-level: each is a child process of its own, in an order of its own."""
    rule: Rule
    budget_s: float | None
    most_requeues: int = 2
    """Times that a block is measured again when its canary drifts."""


#: quick says whether all works and how large the numbers are, and is no base for anything else.
LEVELS: Mapping[PlanName, Level] = MappingProxyType(
    {
        "quick": Level(1, Rule(max_s=0.2, warm_up_s=0.1), 60.0, most_requeues=1),
        "default": Level(3, Rule(max_s=0.15, warm_up_s=0.05), 270.0, most_requeues=1),
        "full": Level(3, Rule(max_s=3.0, warm_up_s=1.0), None),
    }
)
#: Cases of a benchmark in one turn; one of each other. Its worth to a step's prediction: the cost model takes a
#: product's time from token count and shape, an elementwise operator's from six kinds of them.
TURN: Mapping[str, int] = MappingProxyType(
    {"gemm": 7, "elementwise": 5, "attention_decode": 4, "attention_prefill": 2}
)
#: Share of a budget kept for starting up, canaries, fitting and writing.
OVERHEAD_FRAC = 0.35


@dataclass(frozen=True)
class Rates:
    """What the host is believed to do, for durations alone; never a result."""

    flops_per_s: float = 20e9
    bytes_per_s: float = 5e9
    call_s: float = 10e-6
    prepare_s: float = 0.1

    def call_seconds(self, work: Work) -> float:
        """Return the rough time of one call."""
        return self.call_s + work.flops / self.flops_per_s + work.bytes / self.bytes_per_s

    def measured_seconds(self, work: Work, rule: Rule) -> float:
        """Return the rough time from preparing a case to its last sample."""
        call = self.call_seconds(work)
        fill = (work.bytes + 64e6) / self.bytes_per_s
        slow = max(rule.warm_up_s, 5 * call) + max(rule.max_s, rule.least_samples * call)
        return self.prepare_s + fill + 2 * call + slow


#: A core of a CPU, and a GPU, as slow as they come: the first canary puts the truth in their place.
ROUGH: Mapping[str, Rates] = MappingProxyType({"cpu": Rates(), "gpu": Rates(20e12, 500e9, 10e-6, 0.02)})


@dataclass(frozen=True)
class Plan:
    """What will be measured. `hash` is that of the plan as asked for, whatever of it the budget leaves."""

    name: PlanName
    device: str
    cases: tuple[Planned, ...]
    level: Level
    seed: int = 0

    @property
    def hash(self) -> str:
        """Return what makes two runs comparable: device, rule, repetitions and cases."""
        parts = {
            "plan": self.name, "device": self.device, "seed": self.seed,
            "rule": asdict(self.level.rule), "repetitions": self.level.repetitions,
            "cases": sorted(each.case.key for each in self.cases),
        }  # fmt: skip
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=6).hexdigest()

    def order(self, repetition: int, kept: Sequence[Planned], done: Done) -> list[Planned]:
        """Return what is left of one repetition, in its random order."""
        draw = np.random.default_rng([self.seed, repetition])
        shuffled = [kept[i] for i in draw.permutation(len(kept))]
        return [each for each in shuffled if (each.case.key, repetition) not in done]

    def predicted_s(self, each: Planned, rates: Rates) -> float:
        """Return how long a case will take; one that fills windows of `window_ms` fills one to warm up."""
        window_s = each.case.shape.get("window_ms", 0) / 1000
        return (
            rates.measured_seconds(each.work, self.level.rule)
            + (self.level.rule.least_samples + 1) * window_s
        )

    def within(self, budget_s: float | None, rates: Rates, done: Done = frozenset()) -> tuple[Planned, ...]:
        """Return the most worthy cases that fit in the budget over all repetitions; what is done costs nothing."""
        if budget_s is None:
            return self.cases
        left, kept = budget_s * (1 - OVERHEAD_FRAC), []
        for each in self.cases:
            runs = sum((each.case.key, r) not in done for r in range(self.level.repetitions))
            cost = runs * self.predicted_s(each, rates)
            if cost <= left:
                left -= cost
                kept.append(each)
        return tuple(kept)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for the record."""
        return {
            "plan": self.name, "hash": self.hash, "device": self.device, "seed": self.seed,
            "level": asdict(self.level),
            "cases": [
                {"case": each.case.as_dict(), "family": each.family, "work": asdict(each.work)} for each in self.cases
            ],
        }  # fmt: skip


def make_plan(
    name: PlanName, device: str, cases: Iterable[Planned], *, seed: int = 0, level: Level | None = None
) -> Plan:
    """Return a plan of the cases, `TURN` of each benchmark in turn, each benchmark's in the order given."""
    by_bench: dict[str, list[Planned]] = {}
    for each in cases:
        by_bench.setdefault(each.case.bench, []).append(each)
    turns = {
        bench: [queue[at : at + TURN.get(bench, 1)] for at in range(0, len(queue), TURN.get(bench, 1))]
        for bench, queue in by_bench.items()
    }
    mixed = [each for turn in zip_longest(*turns.values(), fillvalue=[]) for some in turn for each in some]
    unique = {each.case.key: each for each in mixed}
    return Plan(name, device, tuple(unique.values()), level or LEVELS[name], seed)


def canaries(cases: Sequence[Planned], rates: Rates, target_s: float = 2e-3) -> list[Planned]:
    """Return the cases timed again and again to see whether the machine has changed: a product and a copy.

    Of the gemm and copy operators the one whose rough time is nearest `target_s` each; without either, of all.
    """

    def near(each: Planned) -> float:
        return abs(float(np.log(rates.call_seconds(each.work) / target_s)))

    groups = [[each for each in cases if each.case.op == op and each.work.bytes] for op in ("gemm", "copy")]
    chosen = [min(group, key=near) for group in groups if group]
    return chosen or ([min(cases, key=near)] if cases else [])


def rates_from(canary: Sequence[tuple[Planned, float]], rough: Rates) -> Rates:
    """Return rates at which the canaries took the seconds they took; what they say nothing of stays rough."""
    from dataclasses import replace

    rates = rough
    for each, seconds in sorted(canary, key=lambda pair: pair[0].work.flops / max(pair[0].work.bytes, 1.0)):
        spent = max(seconds - rough.call_s, 0.1 * seconds)
        if each.work.flops < 4 * each.work.bytes and each.work.bytes:
            rates = replace(rates, bytes_per_s=each.work.bytes / spent)
        elif each.work.flops:
            left = max(spent - each.work.bytes / rates.bytes_per_s, 0.2 * spent)
            rates = replace(rates, flops_per_s=each.work.flops / left)
    return rates
