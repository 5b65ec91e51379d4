"""The summary of a comparison in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from clustersim.report import compare_story as story
from clustersim.report import compare_words as say
from clustersim.report import words
from clustersim.report.console import WIDTH
from clustersim.study.compare import Comparison
from clustersim.study.compare.entries import Entry
from clustersim.study.compare.objective import better


def print_comparison(found: Comparison, console: Console, paths: Iterable[Path] = ()) -> None:
    """Print the answer, the ranking, the metrics side by side, and the files."""
    console.print(summary(found, list(paths)), width=min(WIDTH, console.width), highlight=False)


def summary(found: Comparison, paths: Sequence[Path] = ()) -> RenderableType:
    """Return the comparison as it is printed."""
    parts: list[RenderableType] = [
        Text(story.headline(found), style="bold"),
        Text(" ".join(story.answer(found))),
    ]
    parts += [Text(""), _ranking(found), Text(""), _metrics(found), Text("")]
    parts += [Text(line) for line in (*story.balance(found), *story.quality(found))]
    parts += [_hang("How sure:", line) for line in story.how_sure(found)]
    parts += [_hang("Rests on:", line) for line in story.rests(found)]
    parts += [_hang("Note:", line) for line in story.warnings(found)]
    if paths:
        names = [str(paths[0]), *(path.name for path in paths[1:])]
        parts.append(Text("   ".join(names), style="cyan", overflow="fold"))
    return Padding(Group(*parts), (0, 0, 0, 2))


def _ranking(found: Comparison) -> Table:
    side = better(found.by)
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"{say.name(found.by)}, {side} is better",
                  title_justify="left", title_style="bold")  # fmt: skip
    for header, justify in (("", "right"), ("scenario", "left"), ("mean", "right"), ("95 % interval", "left"),
                            ("against the best, joint interval", "left")):  # fmt: skip
        table.add_column(header, justify=justify)  # type: ignore[arg-type]  # a literal
    best = found.ranking[0].entry if found.ranking[0].rank else None
    for place in found.ranking:
        entry = place.entry
        own = found.intervals[entry.letter].get(found.by, {})
        if place.rank is None or best is None:
            told = Text(place.why_not, style="red")
        elif entry is best:
            told = Text("")
        else:
            told = Text(verdict(found, best, entry))
        rank = "-" if place.rank is None else str(place.rank)
        mean = value(found, entry, found.by)
        span = say.interval(found.by, own.get("low"), own.get("high"))
        table.add_row(rank, Text(f"{entry.letter}  {words.clean(entry.name)}"), mean, span, told)
    return table


def verdict(found: Comparison, best: Entry, entry: Entry, metric: str | None = None) -> str:
    """Return a difference with its interval, and whether it is real."""
    each = found.pair(best, entry, metric)
    if each.verdict in ("no value", "identical"):
        return {"no value": words.UNKNOWN, "identical": "identical"}[each.verdict]
    ratio = say.ratios(each, best.letter)
    text = say.changes(ratio[1], ratio[2]) if ratio else say.held_against(each, best.letter)
    return text if each.verdict == "real" else f"not told apart ({text})"


def value(found: Comparison, entry: Entry, metric: str) -> str:
    """Return a scenario's mean of a metric; "unbounded" or "n/a" where it has none."""
    mean = found.mean(entry, metric)
    if mean is None:
        return say.missing(metric, "OVERLOADED" in found.regimes(entry))
    return say.figure(metric, mean)


def _metrics(found: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("mean; * differs from A beyond chance")
    for entry in found.entries:
        table.add_column(entry.letter, justify="right")
    first, *others = found.entries
    for metric in found.shown:
        cells = [value(found, first, metric)]
        for entry in others:
            star = "*" if found.pair(first, entry, metric).verdict == "real" else " "
            cells.append(f"{value(found, entry, metric)}{star}")
        table.add_row(say.name(metric), *cells)
    return table


def _hang(label: str, text: str) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(Text(label, style="dim"), Text(words.clean(text)))
    return table
