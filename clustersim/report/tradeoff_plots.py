"""The plots of a tradeoff study as plain data; colours by name. Curves with bands, and one bar chart."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

import numpy as np

from clustersim.quality.solver import MODES, Mode
from clustersim.records import Floats
from clustersim.report import tradeoff_words as say
from clustersim.study.tradeoff import Tradeoff
from clustersim.study.tradeoff.answer import DEMANDS

Plot = dict[str, Any]
_DEMAND = "queries a day"
#: Inputs in the bar chart.
_MOST = 8


def plots(found: Tradeoff) -> list[Plot]:
    """Return every plot, in the order in which a reader asks."""
    return [
        *(_cost(found, mode) for mode in MODES), _chance(found), _doubt(found),
        *_optimum(found), *(_frontier(found, mode) for mode in MODES),
    ]  # fmt: skip


def _cost(found: Tradeoff, mode: Mode) -> Plot:
    each = found.answers[mode]
    ends = np.concatenate(
        [end for name in found.names for end in (each.curves[name].best, each.curves[name].high)]
    )
    top = 3 * ends[np.isfinite(ends)].max(initial=1.0)
    traces = [
        _line(say.policy(name), f"entry-{index}", DEMANDS, each.curves[name].best)
        | {"low": _known(each.curves[name].low), "high": _known(np.minimum(each.curves[name].high, top))}
        for index, name in enumerate(found.names)
    ]
    crossing = each.crossover.best
    text = say.crossover(each.crossover, say.policy(found.names[1]))
    text = text[0].upper() + text[1:]
    marks = [{"x": found.study.demand.queries_per_day, "text": "asked"}]
    if 0 < crossing < float("inf"):
        marks.append({"x": crossing, "text": "crossover"})
    note = (
        f"{text}, {say.MODES[mode]}. Bands hold nine draws of ten; one that ends level is out of reach above."
    )
    head = f"Cost against demand, {mode}"
    return _plot(f"cost-{mode}", head, note, _DEMAND, "dollars over all years", traces, marks=marks)


def _chance(found: Tradeoff) -> Plot:
    traces = [
        _line(mode, f"entry-{index}", DEMANDS, 100 * found.answers[mode].cheaper)
        for index, mode in enumerate(MODES)
    ]
    second = say.policy(found.names[1])
    marks = [{"x": found.study.demand.queries_per_day, "text": "asked"}]
    head = f"How likely {second} is cheaper"
    note = "Share of draws, among those in which either policy can be."
    return _plot(
        "chance", head, note, _DEMAND, "chance (%)", traces, log_y=False, marks=marks, range_y=[0, 100]
    )


def _doubt(found: Tradeoff) -> Plot:
    shares = {mode: {d.name: d for d in found.answers[mode].drivers} for mode in MODES}
    names = {name for each in shares.values() for name in each}
    ranked = sorted(names, key=lambda name: -max(s[name].share for s in shares.values() if name in s))[:_MOST]
    traces = [
        {
            "name": mode, "color": f"entry-{index}", "bar": True, "y": [say.what(name) for name in ranked],
            "x": [round(100 * shares[mode][name].share, 1) if name in shares[mode] else 0 for name in ranked],
            "text": [_moved(found, mode, name) for name in ranked],
        }
        for index, mode in enumerate(MODES)
    ]  # fmt: skip
    note = "Share of the doubt about which policy is cheaper that knowing each would take away."
    tall = 60 + 42 * len(ranked)
    return _plot(
        "doubt",
        "What the doubt comes from",
        note,
        "share (%)",
        "",
        traces,
        log_x=False,
        log_y=False,
        height=tall,
    )


def _moved(found: Tradeoff, mode: Mode, name: str) -> str:
    driver = next((d for d in found.answers[mode].drivers if d.name == name), None)
    if driver is None:
        return ""
    low, high = say.chance(driver.cheaper_low), say.chance(driver.cheaper_high)
    return f"chance {low} in its lowest third, {high} in its highest"


def _optimum(found: Tradeoff) -> Iterator[Plot]:
    for key, head, title in (
        ("size", "Size of the cheapest model", "active weights"),
        ("tokens_per_weight", "How far it is overtrained", "tokens of pretraining a weight"),
        ("thinking", "How long it thinks", "thinking tokens of a sample"),
    ):
        traces = []
        for index, mode in enumerate(MODES):
            along = found.answers[mode].along
            values = [None if plan is None else getattr(plan, key) for plan in along]
            names = ["" if plan is None else plan.strategy for plan in along]
            traces.append(
                {"name": mode, "color": f"entry-{index}", "x": DEMANDS.tolist(), "y": values, "text": names}
            )
        yield _plot(key, head, "Of all plans, at best values.", _DEMAND, title, traces)


def _frontier(found: Tradeoff, mode: Mode) -> Plot:
    rows = found.answers[mode].frontier
    names = dict.fromkeys(name for *_, name in rows)
    traces = []
    for index, strategy in enumerate(names):
        mine = [row for row in rows if row[4] == strategy]
        traces.append(
            {
                "name": strategy, "color": f"entry-{index}", "points": True, "x": [row[0] for row in mine],
                "y": [row[1] for row in mine],
                "text": [f"{say.count(size)} weights, {thinking:,.0f} tokens" for _, _, size, thinking, _ in mine],
            }
        )  # fmt: skip
    target = f"{found.study.target.accuracy:.0%}".replace("%", " %")
    note = f"Plans that reach {target} and that no other beats in both."
    x, y = "dollars before the first query", "dollars a query, serving"
    return _plot(f"frontier-{mode}", f"Same quality, {mode}", note, x, y, traces)


def _line(name: str, color: str, x: Floats, y: Floats) -> dict[str, Any]:
    return {"name": name, "color": color, "x": x.tolist(), "y": _known(y)}


def _known(values: Floats) -> list[float | None]:
    return [float(value) if isfinite(value) else None for value in values]


def _plot(
    name: str, head: str, note: str, x: str, y: str, traces: list[dict[str, Any]], *,
    log_x: bool = True, log_y: bool = True, marks: list[dict[str, Any]] | None = None,
    range_y: list[float] | None = None, height: int = 330,
) -> Plot:  # fmt: skip
    return {
        "id": f"plot-{name}", "head": head, "note": note, "x": x, "y": y, "traces": traces,
        "log_x": log_x, "log_y": log_y, "marks": marks or [], "range_y": range_y, "height": height,
        "label": f"{head}. {note}",
    }  # fmt: skip
