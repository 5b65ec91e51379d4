"""What a comparison found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from clustersim.study.compare import objective
from clustersim.study.compare.entries import Entry
from clustersim.study.compare.equal import Balance
from clustersim.study.compare.knob import Search, Target
from clustersim.study.compare.settings import Setting, differing
from clustersim.study.compare.statistics import Difference, differences
from clustersim.study.replicate import intervals, numbers
from clustersim.versions import version_of

_ORDER = ("STABLE", "NEAR_SATURATION", "OVERLOADED")


@dataclass(frozen=True)
class Rank:
    """A scenario's place. `rank` is None, with the reason, for one that is not ranked."""

    rank: int | None
    entry: Entry
    why_not: str = ""


@dataclass(frozen=True)
class Comparison:
    """Scenarios under the same seeds: metrics of every run, differences with joint intervals, a ranking."""

    entries: Sequence[Entry]
    seeds: Sequence[int]
    metrics: Mapping[str, Sequence[Mapping[str, Any]]]
    """Letter -> the metrics of each replication, in the order of the seeds."""
    asked_by: str | None
    asked_metrics: Sequence[str] = ()
    balance: Balance | None = None
    target: Target | None = None
    searches: Mapping[str, Search] | None = None

    @cached_property
    def values(self) -> Mapping[str, Mapping[str, Sequence[float | None]]]:
        """Metric -> letter -> value of each replication, for the numbers that every scenario has."""
        flat = {letter: [numbers(run) for run in runs] for letter, runs in self.metrics.items()}
        first, *others = (set().union(*runs) for runs in flat.values())
        known = first.intersection(*others)
        ordered = [key for key in flat[self.entries[0].letter][0] if key in known]
        return {
            key: {letter: [run.get(key) for run in runs] for letter, runs in flat.items()} for key in ordered
        }

    @cached_property
    def intervals(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Letter -> metric -> mean, low, high of its own 95 % t interval, n; None without a value in every run."""
        return {letter: intervals(list(map(dict, runs))) for letter, runs in self.metrics.items()}

    @cached_property
    def by(self) -> str:
        """The metric that scenarios are ranked by."""
        valued = [key for key in self.values if all(self.mean(e, key) is not None for e in self.entries)]
        equal = self.balance is not None or len({tuple(self._fleet(entry)) for entry in self.entries}) == 1
        return objective.objective(self.asked_by, list(self.values), valued, equal)

    def _fleet(self, entry: Entry) -> list[tuple[str, int]]:
        """Return accelerators by name and number: equal fleets cost the same whatever they do."""
        each = self.metrics[entry.letter][0]["deployments"].values()
        return sorted(
            (str(deployment["accelerator"]), int(deployment["num_accelerators"])) for deployment in each
        )

    @property
    def shown(self) -> list[str]:
        """The metrics that are shown: the one ranked by, those asked for, and the usual ones that have a value."""
        asked = [objective.check(name, list(self.values), "--metric") for name in self.asked_metrics]
        usual = [
            key for key in objective.SHOWN
            if key in self.values and any(self.mean(entry, key) is not None for entry in self.entries)
            and not (key == "p50_ttfo_ms" and self._no_thinking)
        ]  # fmt: skip
        return list(dict.fromkeys([self.by, *asked, *usual]))

    @property
    def _no_thinking(self) -> bool:
        return not any(any(row or []) for row in self.values.get("total_thinking", {}).values())

    @cached_property
    def differences(self) -> Mapping[str, Sequence[Difference]]:
        """Metric -> the differences of all pairs."""
        return {key: differences(key, values) for key, values in self.values.items()}

    def difference(self, a: str, b: str, metric: str | None = None) -> Difference:
        """Return what scenario `b` is more than `a`, by letters of which a is the earlier."""
        return next(each for each in self.differences[metric or self.by] if (each.a, each.b) == (a, b))

    def mean(self, entry: Entry, metric: str) -> float | None:
        """Return the mean over replications; None for what is unbounded or missing in any."""
        mean: float | None = self.intervals[entry.letter].get(metric, {}).get("mean")
        return mean

    def regimes(self, entry: Entry) -> Mapping[str, int]:
        """Return how many replications were in each regime, the worst first."""
        seen = [str(run["regime"]) for run in self.metrics[entry.letter]]
        return {regime: seen.count(regime) for regime in reversed(_ORDER) if regime in seen}

    @cached_property
    def ranking(self) -> Sequence[Rank]:
        """The scenarios, best first; those that do not keep up or have no value come last, without a rank.

        Scenarios that no interval tells apart from the best of their group share its rank.
        """
        ranked = [entry for entry in self.entries if not self._why_not(entry)]
        sign = 1 if objective.better(self.by) == "lower" else -1
        ranked.sort(key=lambda entry: sign * (self.mean(entry, self.by) or 0.0))
        rows: list[Rank] = []
        leader, place = None, 0
        for number, entry in enumerate(ranked, start=1):
            if leader is None or self.pair(leader, entry).verdict == "real":
                leader, place = entry, number
            rows.append(Rank(place, entry))
        rest = [(entry, self._why_not(entry)) for entry in self.entries]
        return rows + [Rank(None, entry, why) for entry, why in rest if why]

    def _why_not(self, entry: Entry) -> str:
        overloaded = self.regimes(entry).get("OVERLOADED", 0)
        if overloaded:
            return f"does not keep up: OVERLOADED in {overloaded} of {len(self.seeds)} replications"
        if self.searches is not None and not self.searches[entry.letter].reached:
            return f"does not surely reach {self.target}"
        if self.mean(entry, self.by) is None:
            return f"has no {self.by} in some replication"
        return ""

    def pair(self, one: Entry, other: Entry, metric: str | None = None) -> Difference:
        """Return the difference of two entries, whichever comes first."""
        first, second = sorted((one.letter, other.letter))
        return self.difference(first, second, metric)

    @cached_property
    def settings(self) -> Sequence[Setting]:
        """Where the resolved scenarios differ."""
        return differing([entry.scenario for entry in self.entries])

    @cached_property
    def unlike_demand(self) -> Sequence[Setting]:
        """Differing settings of what is asked of the fleets, knobs apart: results are then not of like for like."""
        same = []
        for entry in self.entries:
            knob = self.searches[entry.letter].knob if self.searches else None
            same.append(entry.scenario.with_((knob.path, knob.low)) if knob else entry.scenario)
        return [row for row in differing(same) if row.is_demand]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a scenario in order of rank: means, intervals, and the ratio to the best, of the metric ranked by."""
        best = self.ranking[0].entry if self.ranking[0].rank else None
        rows = []
        for place in self.ranking:
            entry = place.entry
            row: dict[str, Any] = {"rank": place.rank, "letter": entry.letter, "scenario": entry.name}
            for key in ("mean", "low", "high"):
                row[f"{self.by}_{key}"] = self.intervals[entry.letter].get(self.by, {}).get(key)
            mean, top = self.mean(entry, self.by), self.mean(best, self.by) if best else None
            row["over_best"] = mean / top if mean is not None and top else None
            rows.append(row | {"regime": next(iter(self.regimes(entry))), "note": place.why_not})
        return pd.DataFrame(rows).astype({"rank": "Int64"})

    @property
    def replications(self) -> pd.DataFrame:
        """One row a scenario and replication: letter, scenario, replication, seed, regime, every number."""
        rows = []
        for entry in self.entries:
            for index, (seed, run) in enumerate(zip(self.seeds, self.metrics[entry.letter], strict=True)):
                head = {"letter": entry.letter, "scenario": entry.name, "replication": index, "seed": seed}
                rows.append(head | {"regime": run["regime"]} | numbers(run))
        return pd.DataFrame(rows)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data: what comparison.json holds."""
        return {
            "clustersim_version": version_of("clustersim"),
            "by": self.by,
            "better": objective.better(self.by),
            "seeds": list(self.seeds),
            "correction": "Bonferroni over the pairs of scenarios, each metric a family of its own; joint level 0.95",
            "ranking": [
                {"rank": place.rank, "letter": place.entry.letter, "scenario": place.entry.name,
                 "regimes": dict(self.regimes(place.entry)), "note": place.why_not}
                for place in self.ranking
            ],
            "equal": asdict(self.balance) if self.balance else None,
            "target": str(self.target) if self.target else None,
            "searches": {letter: asdict(each) for letter, each in (self.searches or {}).items()},
            "unlike_demand": [row.path for row in self.unlike_demand],
            "settings": [{"path": row.path, "values": list(row.values)} for row in self.settings],
            "intervals_95": {letter: dict(each) for letter, each in self.intervals.items()},
            "differences": [asdict(each) for rows in self.differences.values() for each in rows],
        }  # fmt: skip
