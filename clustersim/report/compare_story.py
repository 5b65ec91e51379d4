"""What a comparison says, in sentences: the answer, how sure it is, what it rests on, what spoils it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

import numpy as np

from clustersim.report import compare_words as say
from clustersim.report import words
from clustersim.study.compare import Comparison
from clustersim.study.compare.entries import Entry
from clustersim.study.compare.equal import TOLERANCE, text
from clustersim.study.compare.objective import better
from clustersim.study.compare.statistics import Difference

#: Replications below which Student's intervals lean on the runs being normal.
_FEW = 5
#: Metrics named in which the best does worse.
_LOSSES = 5


def called(entry: Entry) -> str:
    """Return a scenario as it is named in a sentence."""
    return f"{entry.letter} ({words.clean(entry.name)})"


def headline(found: Comparison) -> str:
    """Return the answer in a few words: "B is best", "A and C are not told apart"."""
    leaders = sorted(place.entry.letter for place in found.ranking if place.rank == 1)
    if not leaders:
        return "None can be ranked"
    if len(leaders) == 1:
        return f"{leaders[0]} is best"
    return f"{words.listed(leaders)} are not told apart"


def answer(found: Comparison) -> Iterator[str]:
    """Yield the sentences that answer."""
    ranked = [place for place in found.ranking if place.rank is not None]
    side = "lowest" if better(found.by) == "lower" else "highest"
    metric = say.name(found.by)
    if not ranked:
        yield "No scenario can be ranked."
    else:
        best = ranked[0].entry
        shared = [place.entry for place in ranked[1:] if place.rank == 1]
        value = say.figure(found.by, found.mean(best, found.by))
        if shared:
            others = words.listed([entry.letter for entry in shared])
            yield f"{metric}: chance alone may explain why {called(best)}, at {value}, is before {others}."
        elif len(ranked) > 1:
            yield f"{metric} is {side} for {called(best)}: {value}."
        else:
            yield f"Only {called(best)} can be ranked. {metric}: {value}."
        for place in ranked[1:]:
            if place.entry not in shared:
                against = say.held_against(found.pair(best, place.entry), best.letter)
                of = say.figure(found.by, found.mean(place.entry, found.by))
                yield f"{called(place.entry)} has {of}, {against}."
        yield from _price_of_winning(found, best)
    for place in found.ranking:
        if place.rank is None:
            yield f"{called(place.entry)} is not ranked: it {place.why_not}."


def _price_of_winning(found: Comparison, best: Entry) -> Iterator[str]:
    """Yield what the best does worse than the runner-up, as far as it is real."""
    others = [place.entry for place in found.ranking if place.rank is not None and place.entry is not best]
    if not others:
        return
    other, losses = others[0], []
    for metric in found.shown:
        each = found.pair(best, other, metric)
        ratio = say.ratios(each, other.letter)
        sense = better(metric)
        if each.verdict == "real" and ratio and sense and (ratio[0] > 1) == (sense == "lower"):
            losses.append(f"{say.name(metric)} {say.signed(ratio[0])}")
    if losses:
        more = f"; {len(losses) - _LOSSES} more" if len(losses) > _LOSSES else ""
        yield f"{best.letter} does worse than {other.letter} in: {'; '.join(losses[:_LOSSES])}{more}."


def how_sure(found: Comparison) -> Iterator[str]:
    """Yield what the intervals are, and which pairs they do not tell apart."""
    num, pairs = len(found.seeds), len(found.differences[found.by])
    joint = "95 % intervals" if pairs == 1 else f"joint 95 % intervals of all {pairs} pairs (Bonferroni)"
    yield (
        f"{num} replications, the same seeds for every scenario; differences have paired t, ratios Fieller's, "
        f"{joint}. Each metric is a family of its own: of many metrics a few differ by chance."
    )
    spread = _pairing(found)
    if spread is not None:
        yield spread
    for each in found.differences[found.by]:
        if each.verdict == "not told apart":
            yield not_told(each)
        elif each.verdict == "identical":
            yield f"{each.a} and {each.b} have the same {say.name(found.by)} in every replication."


def not_told(each: Difference) -> str:
    """Return what is known of a pair that no interval tells apart."""
    found = say.ratios(each, each.a)
    if found is None:
        return f"{each.a} and {each.b} are not told apart; {say.further(each)}."
    span = say.changes(found[1], found[2])
    return (
        f"{each.a} and {each.b} are not told apart: {each.b} has {span} than {each.a}; {say.further(each)}."
    )


def _pairing(found: Comparison) -> str | None:
    """Say how much narrower equal seeds make the intervals of the metric ranked by, in the mean of all pairs."""
    factors = []
    for each in found.differences[found.by]:
        a, b = (np.asarray(found.values[found.by][letter], dtype=float) for letter in (each.a, each.b))
        apart = float(a.var(ddof=1) + b.var(ddof=1))
        if each.correlation is not None and apart > 0:
            factors.append(sqrt(max(0.0, float((b - a).var(ddof=1)) / apart)))
    if not factors:
        return None
    share = sum(factors) / len(factors)
    if share <= 0.95:
        return (
            f"Equal seeds make the intervals of these differences {1 / max(share, 1e-3):.2g} times narrower."
        )
    return "Equal seeds make no interval narrower here: chance meets these scenarios differently."


def rests(found: Comparison) -> Iterator[str]:
    """Yield what each scenario's step time rests on, and the error that no interval here holds."""
    for entry in found.entries:
        evidence = shares(found, entry, "time_by_evidence")
        parts = [
            f"{words.percent(evidence[kind])} {kind}"
            for kind in words.EVIDENCE
            if evidence.get(kind, 0) >= 0.005
        ]
        if parts:
            yield f"{entry.letter}: {', '.join(parts)}; operator model ±{model_error(found, entry) * 100:.0f} %"


def model_error(found: Comparison, entry: Entry) -> float:
    """Return the standard error of a step's time that the operator model has: the largest of all deployments."""
    every = [run["deployments"].values() for run in found.metrics[entry.letter]]
    return max(float(each["step_time_rel_error"]) for deployments in every for each in deployments)


def shares(found: Comparison, entry: Entry, key: str) -> dict[str, float]:
    """Return shares that add up to 1 (`time_by_part`, `time_by_evidence`), the mean over runs and deployments."""
    rows: list[Mapping[str, Any]] = [
        each[key] for run in found.metrics[entry.letter] for each in run["deployments"].values() if each[key]
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: sum(float(row.get(name, 0.0)) for row in rows) / len(rows) for name in names}


def warnings(found: Comparison) -> Iterator[str]:
    """Yield what a reader must know before believing or using the answer."""
    unlike = found.unlike_demand
    if unlike:
        few = words.listed([row.path for row in unlike[:4]]) + (" and more" if len(unlike) > 4 else "")
        yield f"Not like for like: the scenarios are not asked the same. They differ in {few}."
    yield (
        "The intervals are of chance alone. They do not hold the error of the operator model, of prices, of accuracy "
        "or of the workload. Where scenarios rest on the same figures much of it cancels; else it does not."
    )
    if found.balance:
        for share in found.balance.unequal:
            kind = found.balance.equal
            yield (
                f"{share.letter} is {share.imbalance * 100:+.1f} % off equal {kind}, more than "
                f"{TOLERANCE * 100:.0f} %: whole replicas come no nearer. Compare larger fleets."
            )
    for letter, search in (found.searches or {}).items():
        if search.knob is None:
            yield f"{letter} has none of the knobs and is taken as it is."
    if len(found.seeds) < _FEW:
        yield f"{len(found.seeds)} replications are few: the intervals are wide, and lean on normal runs."
    for entry in found.entries:
        for regime, num in found.regimes(entry).items():
            if regime == "OVERLOADED":
                yield f"{called(entry)} is OVERLOADED in {num} of {len(found.seeds)} replications: waits have no value."
            elif regime == "NEAR_SATURATION":
                yield f"{called(entry)} is near saturation in {num} of {len(found.seeds)} replications."
        idle = int(found.metrics[entry.letter][0]["idle_accelerators"])
        if idle:
            yield f"{called(entry)} leaves {idle:,} accelerators of its nodes idle; neither cost nor power counts them."
        failed = max(int(run["failed"]) for run in found.metrics[entry.letter])
        if failed:
            yield f"{called(entry)} rejected up to {failed:,} requests of a replication as too long."


def balance(found: Comparison) -> Iterator[str]:
    """Yield what each fleet has: "A 8 replicas = $1.00/s", "B 7 replicas = $0.97/s, -3.0 %"."""
    if found.balance is None:
        return
    goal = found.balance.budget or f"what {found.entries[0].letter} has"
    yield f"Equal {found.balance.equal}, {text(found.balance.target, found.balance.equal)} ({goal}), same demand."
    for share in found.balance.shares:
        several = len(share.replicas) > 1
        counts = words.listed(
            [f"{name + ' ' if several else ''}{num}" for name, num in share.replicas.items()]
        )
        off = f", {share.imbalance * 100:+.1f} %" if abs(share.imbalance) >= 5e-4 else ""
        plural = "" if set(share.replicas.values()) == {1} else "s"
        yield f"{share.letter} {counts} replica{plural} = {text(share.amount, found.balance.equal)}{off}"


def quality(found: Comparison) -> Iterator[str]:
    """Yield how each scenario reached the target."""
    for letter, search in (found.searches or {}).items():
        tried = len(search.trials)
        if search.knob is None:
            yield f"{letter} {'reaches' if search.reached else 'does not surely reach'} {found.target} as it is"
        elif search.found is None:
            yield f"{letter} does not surely reach {found.target} even at {search.knob.path} {search.knob.high}"
        else:
            yield f"{letter} reaches {found.target} from {search.knob.path} {search.found} ({tried} settings tried)"
