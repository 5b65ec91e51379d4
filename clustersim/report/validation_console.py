"""A validation in a terminal: errors per metric overall and by group, what was assumed, and what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from clustersim.report import words
from clustersim.study.validation import ServingValidation
from clustersim.study.validation.errors import GROUPS, Scored, by, errors_of
from clustersim.study.validation.metrics import QUANTITIES

#: Wider than other summaries: names of sources are long.
_WIDTH = 130
_TITLES = {"source": "By source", "engine": "By engine", "gpu": "By GPU", "model": "By model"}


def print_validation(found: ServingValidation, console: Console, paths: Iterable[Path] = ()) -> None:
    """Print the errors and the files written."""
    console.print(summary(found, list(paths)), width=min(_WIDTH, console.width), highlight=False)


def summary(found: ServingValidation, paths: Sequence[Path] = ()) -> RenderableType:
    """Return the validation as it is printed."""
    share = found.rows_simulated / found.rows_total
    parts: list[RenderableType] = [
        Text(
            f"{found.rows_simulated:,} of {found.rows_total:,} rows simulated ({share:.1%}), "
            f"{len(found.refused):,} refused",
            style="bold",
        )
    ]
    if found.scored:
        parts += [Text(line) for line in _explained(found)]
        parts += [Text(""), _overall(found)]
        for name in GROUPS:
            parts += [Text(""), _by_group(_TITLES[name], found.grouped(name))]
    if found.assumptions:
        parts += [Text(""), _counts("Assumed where rows leave it open", found.assumptions)]
    if found.reasons:
        parts += [Text(""), _counts("Refused", found.reasons)]
    if paths:
        parts += [Text(""), Text("   ".join(map(str, paths)), style="cyan", overflow="fold")]
    return Padding(Group(*parts), (0, 0, 0, 2))


def _explained(found: ServingValidation) -> Iterable[str]:
    yield (
        "Absolute percentage errors; signed: the median with its sign, below 0 where predicted too low. "
        f"Baseline: the roofline of every operator times {found.constant:.2f}, the constant that suits these rows best."
    )
    if found.num_beyond_the_roofline:
        yield (
            f"{found.num_beyond_the_roofline} rows were measured faster than the bare roofline allows: their load or "
            "layout is not as recorded. They are counted."
        )


def _overall(found: ServingValidation) -> Table:
    """Return the table of all rows: a quantity, and the table's metrics that it pools where they are several."""
    table = _table("Overall", "metric")
    by_quantity = by(found.scored, lambda each: each.prediction.metric.quantity)
    for quantity in QUANTITIES:
        rows = by_quantity.get(quantity)
        if not rows:
            continue
        metrics = by(rows, lambda each: each.row.metric)
        alone = next(iter(metrics)) if len(metrics) == 1 else ""
        table.add_row(Text(f"{quantity} {alone}".strip()), *_cells(rows))
        if not alone:
            for metric, few in metrics.items():
                table.add_row(Text(f"  {words.clean(metric)}", style="dim"), *_cells(few))
    return table


def _by_group(title: str, groups: dict[str, list[Scored]]) -> Table:
    table = _table(title, "", "metric")
    for group, rows in groups.items():
        shown = words.clean(group)
        by_quantity = by(rows, lambda each: each.prediction.metric.quantity)
        for quantity in QUANTITIES:
            if quantity in by_quantity:
                table.add_row(Text(shown, overflow="fold"), quantity, *_cells(by_quantity[quantity]))
                shown = ""
    return table


def _table(title: str, *names: str) -> Table:
    table = Table(
        box=None, pad_edge=False, header_style="dim", title=title, title_justify="left", title_style="bold"
    )
    for name in names:
        table.add_column(name)
    for name in ("rows", "median %", "p90 %", "signed %", "baseline median %", "p90 %"):
        table.add_column(name, justify="right")
    return table


def _cells(rows: Sequence[Scored]) -> list[str]:
    errors = errors_of(rows)
    numbers = (
        errors.median_ape_pct, errors.p90_ape_pct, errors.median_signed_pct, errors.baseline_median_ape_pct,
        errors.baseline_p90_ape_pct,
    )  # fmt: skip
    return [f"{errors.n:,}", *(f"{number:.1f}" for number in numbers)]


def _counts(title: str, counted: Sequence[tuple[str, int]]) -> Table:
    table = Table(
        box=None, pad_edge=False, show_header=False, title=title, title_justify="left", title_style="bold"
    )
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for text, times in counted:
        table.add_row(f"{times:,}", Text(words.clean(text)))
    return table
