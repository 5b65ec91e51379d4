"""The summary of a tradeoff study in a terminal: one screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from clustersim.quality.solver import MODES
from clustersim.report import tradeoff_story as story
from clustersim.report import tradeoff_words as say
from clustersim.report import words
from clustersim.report.console import WIDTH
from clustersim.study.tradeoff import Tradeoff
from clustersim.study.tradeoff.answer import ANY
from clustersim.study.tradeoff.plans import Choice


def print_tradeoff(found: Tradeoff, console: Console, paths: Iterable[Path] = ()) -> None:
    """Print the answer, the plans, how sure it is, what it rests on, and the files."""
    console.print(summary(found, list(paths)), width=min(WIDTH, console.width), highlight=False)


def summary(found: Tradeoff, paths: list[Path]) -> RenderableType:
    """Return the study's answer as it is printed."""
    parts: list[RenderableType] = [
        Text(story.headline(found), style="bold"),
        Text(" ".join(story.answer(found))),
        Text(""),
        _plans(found),
        Text(""),
    ]
    for label, lines in (
        ("How sure:", story.how_sure(found)), ("Measure first:", story.measure_first(found)),
        ("Rests on:", story.rests(found)), ("Note:", story.warnings(found)),
    ):  # fmt: skip
        parts += [_hang("" if number else label, line) for number, line in enumerate(lines)]
    if paths:
        names = [str(paths[0]), *(path.name for path in paths[1:])]
        parts.append(Text("   ".join(names), style="cyan", overflow="fold"))
    return Padding(Group(*parts), (0, 0, 0, 2))


#: Row -> how it is read off a plan.
ROWS: Sequence[tuple[str, Callable[[Choice], str]]] = (
    ("all dollars", lambda plan: say.usd(plan.usd)),
    ("pretraining", lambda plan: say.usd(plan.pretrain_usd)),
    ("RL", lambda plan: say.usd(plan.rl_usd)),
    ("serving", lambda plan: say.usd(plan.serving_usd)),
    ("serving a query", lambda plan: say.usd(plan.usd_per_query)),
    ("active weights N", lambda plan: say.count(plan.size)),
    ("train tokens D", lambda plan: say.count(plan.train_tokens)),
    ("D / N", lambda plan: f"{plan.tokens_per_weight:,.0f}"),
    ("train FLOP, 6 N D", lambda plan: f"{plan.train_flops:.1e}"),
    ("strategy", lambda plan: plan.strategy),
    ("thinking tokens", lambda plan: f"{plan.thinking:,.0f}"),
    ("training fleet", lambda plan: f"{plan.train_accelerators:,}, {plan.train_days:.0f} d"),
    ("its power", lambda plan: f"{plan.train_mw:.1f} MW"),
    ("serving fleet", lambda plan: f"{plan.accelerators:,.0f}"),
    ("its peak power", lambda plan: f"{plan.peak_mw:.1f} MW"),
)


def columns(found: Tradeoff) -> list[tuple[str, Choice | None]]:
    """Return the plans to show: the cheapest of all and of each policy, mode by mode."""
    return [
        (f"{'cheapest' if name == ANY else say.policy(name)}, {mode}", found.answers[mode].choices[name])
        for mode in MODES
        for name in (ANY, *found.names)
    ]


def _plans(found: Tradeoff) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("at best values", no_wrap=True)
    shown = columns(found)
    for name, _ in shown:
        table.add_column(name.replace(", ", "\n"), justify="right")
    for label, value in ROWS:
        table.add_row(label, *(value(plan) if plan else "-" for _, plan in shown))
    return table


def _hang(label: str, text: str) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, min_width=14)
    table.add_column()
    table.add_row(Text(label, style="dim"), Text(words.clean(text)))
    return table
