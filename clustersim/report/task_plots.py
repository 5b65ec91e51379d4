"""The plots of a workload's tasks as plain data; see `report.plots`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from clustersim.report import words
from clustersim.report.plots import Plot, latencies, log_axis, quantile_curve
from clustersim.report.tasks import TaskView, joules

#: Groups of equal size by difficulty, and the fewest tasks that one may have.
_GROUPS, _FEWEST = 10, 10


def plots(view: TaskView) -> list[Plot]:
    """Return the plots of a workload's tasks in the order in which they are shown."""
    if view.frame.empty:
        return []
    return [_latency(view), *_accuracy(view), *_amount(view)]


def _latency(view: TaskView) -> Plot:
    frame = view.frame[view.frame["status"] == "answered"]
    series = {
        name: np.sort((frame[column] - frame["arrival_s"]).dropna().to_numpy(dtype=np.float64))
        for name, column in (("ttfo", "first_output_s"), ("e2el", "finish_s"))
    }
    if np.array_equal(series["ttfo"], series["e2el"]):
        del series["ttfo"]  # answers are shown whole
    limits = sorted({(limit, name) for each in view.promises for name, limit in each.items()})
    note = (
        "From arrival to the first token of the answer (TTFO) and to the end (E2EL); a dashed line is an SLO."
    )
    if view.regime == "OVERLOADED":
        note += " Overloaded: the curves move right for as long as the run lasts."
    plot = latencies(series, limits, note, "tasks")
    return {**plot, "title": "Latency of tasks"}


_RIGHT: Plot = {"title": "tasks answered rightly (%)", "range": [-2, 102]}


def _accuracy(view: TaskView) -> Iterator[Plot]:
    """Yield accuracy by difficulty, and by tokens."""
    known = view.frame[view.frame["correct"].notna()].sort_values("difficulty", kind="stable")
    if known.empty:
        return
    groups = _groups(known)
    quantile = [float(group["difficulty"].mean() * 100) for group in groups]
    chance = [float(group["success"].mean() * 100) for group in groups]
    seen = _seen(groups)
    traces = [{"x": quantile, **seen}]
    if np.isfinite(chance).all():
        traces.append({
            "x": quantile, "y": chance, "name": "one plain attempt (chance)", "color": "plain",
            "hover": "one plain attempt: %{y:.0f} %",
        })  # fmt: skip
    sizes = sorted({len(group) for group in groups})
    size = " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))
    yield {
        "title": "Accuracy by difficulty", "wide": False, "legend": True, "marks": [], "traces": traces,
        "note": f"Groups of {size} tasks by difficulty; bars are 95 % intervals of chance.",
        "x": {"title": "quantile of difficulty (%): 100 is hardest", "range": [0, 100]}, "y": _RIGHT,
    }  # fmt: skip
    tokens = [float(group["output_tokens"].mean()) for group in groups]
    yield {
        "title": "Tokens and accuracy", "wide": False, "legend": False, "marks": [],
        "note": "The same groups, from the easiest to the hardest along the line.",
        "traces": [{"x": tokens, **seen, "hover": "%{x:,.0f} tokens a task, %{y:.0f} % right<br>%{text}"}],
        "x": {"title": "output tokens a task, mean of the group"}, "y": _RIGHT,
    }  # fmt: skip


def _seen(groups: list[pd.DataFrame]) -> Plot:
    """Return the share of each group that was answered rightly, with its interval, as a line without its x."""
    each = [(int(group["correct"].sum()), len(group)) for group in groups]
    limits = [_wilson(right, num) for right, num in each]
    spans = [f"{group['difficulty'].min():.0%} to {group['difficulty'].max():.0%}" for group in groups]
    return {
        "y": [right / num * 100 for right, num in each], "marks": True,
        "name": "with the strategy", "color": "accuracy",
        "low": [low * 100 for low, _ in limits], "high": [high * 100 for _, high in limits],
        "text": [f"{right} of {num} tasks, difficulty {span}" for (right, num), span in zip(each, spans, strict=True)],
        "hover": "%{y:.0f} % right<br>%{text}",
    }  # fmt: skip


def _wilson(right: int, num: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(right, num).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _groups(known: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the tasks, sorted by difficulty, in groups of equal size, at most _GROUPS of at least _FEWEST."""
    num = max(1, min(_GROUPS, len(known) // _FEWEST))
    edges = np.linspace(0, len(known), num + 1).round().astype(int)
    return [known.iloc[start:end] for start, end in pairwise(edges)]


def _amount(view: TaskView) -> Iterator[Plot]:
    """Yield the distributions of dollars (joules where no price is known) and of tokens over tasks."""
    frame = view.frame
    if frame["usd"].notna().all():
        yield _distribution(
            frame["usd"], "Cost", "cost", words.usd, "dollars a task (logarithmic)", "cost less"
        )
    else:
        yield _distribution(
            frame["joules"], "Energy", "power", joules, "joules a task (logarithmic)", "take less"
        )
    yield _distribution(
        frame["output_tokens"], "Tokens", "output", words.count, "output tokens a task (logarithmic)", "make fewer"
    )  # fmt: skip


def _distribution(values: Any, title: str, color: str, say: Any, axis: str, than: str) -> Plot:
    column = np.sort(np.asarray(values, dtype=np.float64))
    line = quantile_curve(column, title.lower(), color, say, f"tasks {than}")
    low, high = line["x"][0] / 1.2, line["x"][-1] * 1.2
    mean = float(column.mean())
    return {
        "title": f"{title} of tasks", "note": f"Mean {say(mean)} a task, median {say(float(np.median(column)))}.",
        "wide": False, "legend": False, "marks": [], "traces": [line],
        "x": log_axis(axis, low, high, _ticks(low, high), say),
        "y": {"title": f"tasks that {than} (%)", "range": [0, 101]},
    }  # fmt: skip


def _ticks(low: float, high: float) -> Sequence[float]:
    """Return at most seven round numbers between two others: 1, 2, 5 times powers of ten, or powers alone."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1, 2, 5), (1,)):
        ticks = [
            step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high
        ]
        if len(ticks) <= 7:
            return ticks
    return ticks[:: -(-len(ticks) // 7)]


def bars(view: TaskView) -> list[dict[str, Any]]:
    """Return the stacked bar of where the tokens of tasks go."""
    m = view.metrics
    whole = m["output_tokens_per_task"]
    if not whole:
        return []
    rows = (
        ("in the answer given", "useful", m["useful_tokens_per_task"]),
        ("thrown away", "wasted", m["wasted_tokens_per_task"]),
        ("checks", "check", m["check_tokens_per_task"]),
    )
    parts = [
        {"name": name, "color": color, "share": size / whole, "text": f"{words.number(size)} a task"}
        for name, color, size in rows
        if size
    ]
    note = "Output tokens: those of the calls that led to the answer, those of all others, and those of verifiers."
    return [{"title": "Where the tokens go", "note": note, "parts": parts, "wide": True}]
