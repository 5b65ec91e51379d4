"""The plots of a comparison as plain data: points with the intervals around them; colours by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clustersim.report import compare_words as say
from clustersim.report import words
from clustersim.study.compare import Comparison
from clustersim.study.compare.entries import Entry
from clustersim.units import MILLI

Plot = dict[str, Any]
#: Rows that a plot of intervals shows at most; tables hold all.
_MOST = 8
#: Largest change drawn, as a ratio; beyond it a point says so at the edge.
_EDGE = 3.0


def differences(found: Comparison) -> Plot | None:
    """Return the forest of changes against A: a row a metric, a point a scenario that keeps up.

    None where nothing has a ratio.
    """
    first = found.entries[0]
    others = [entry for entry in found.entries[1:] if "OVERLOADED" not in found.regimes(entry)]
    metrics = [
        metric for metric in found.shown if any(_ratio(found, first, other, metric) for other in others)
    ]
    traces = []
    for entry in others:
        points = [(metric, _ratio(found, first, entry, metric)) for metric in metrics]
        drawn = [(metric, ratio) for metric, ratio in points if ratio]
        traces.append(
            {
                "name": entry.letter, "color": color(found, entry),
                "y": [say.name(metric) for metric, _ in drawn],
                "x": [_change(ratio[0]) for _, ratio in drawn],
                "low": [_change(ratio[1]) for _, ratio in drawn],
                "high": [_change(ratio[2]) for _, ratio in drawn],
                "text": [f"{say.change(ratio[0])} ({say.changes(ratio[1], ratio[2])})" for _, ratio in drawn],
                "real": [found.pair(first, entry, metric).verdict != "not told apart" for metric, _ in drawn],
            }
        )  # fmt: skip
    if not metrics:
        return None
    return {
        "id": "plot-differences", "zero": True, "traces": traces, "rows": [say.name(metric) for metric in metrics],
        "title": f"change against {first.letter} (%)", "height": 60 + len(metrics) * max(30, 16 * len(others) + 14),
        "legend": len(others) > 1,
        "label": f"Changes against {first.letter}: "
        + "; ".join(f"{t['name']} {y} {text}" for t in traces for y, text in zip(t["y"], t["text"], strict=True)),
    }  # fmt: skip


def color(found: Comparison, entry: Entry) -> str:
    """Return the name of an entry's colour."""
    return f"entry-{[each.letter for each in found.entries].index(entry.letter)}"


def _ratio(found: Comparison, first: Entry, other: Entry, metric: str) -> tuple[float, float, float] | None:
    each = found.pair(first, other, metric)
    return None if each.verdict == "no value" else say.ratios(each, first.letter)


def _change(ratio: float) -> float:
    return round((min(ratio, _EDGE) - 1) * 100, 6)


def metrics(found: Comparison) -> Iterator[Plot]:
    """Yield a plot of means with their own 95 % intervals for each of the first metrics shown."""
    for number, metric in enumerate(found.shown[:_MOST]):
        traces, absent = [], []
        for entry in found.entries:
            interval = found.intervals[entry.letter].get(metric, {})
            if interval.get("mean") is None:
                absent.append(f"{entry.letter} {say.missing(metric, 'OVERLOADED' in found.regimes(entry))}")
                continue
            scale = 1 / MILLI if metric.endswith("_ms") else 1.0
            ends = {"x": "mean", "low": "low", "high": "high"}
            traces.append(
                {
                    "name": entry.letter, "color": color(found, entry), "y": [entry.letter],
                    **{axis: [interval[end] / scale] for axis, end in ends.items()},
                    "text": [f"{say.figure(metric, interval['mean'])} "
                             f"({say.interval(metric, interval['low'], interval['high'])})"],
                    "real": [True],
                }
            )  # fmt: skip
        if traces:
            yield {
                "id": f"plot-metric-{number}", "zero": False, "traces": traces, "title": _unit(metric), "legend": False,
                "rows": [entry.letter for entry in found.entries], "height": 76 + 26 * len(found.entries),
                "head": say.name(metric), "note": f"Without a value: {words.listed(absent)}." if absent else "",
                "label": f"{say.name(metric)}: " + "; ".join(f"{t['name']} {t['text'][0]}" for t in traces),
            }  # fmt: skip


def _unit(metric: str) -> str:
    last = metric.rpartition(".")[2]
    if last.endswith("_ms"):
        return "seconds"
    if last.startswith("usd"):
        return "USD"
    return say.figure(metric, 1.0).partition(" ")[2] if "%" not in say.figure(metric, 1.0) else "share"
