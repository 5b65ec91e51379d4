"""What a check prints: errors beside their baseline, where they come from, and latencies under load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from clustersim.units import duration

#: Steps that are printed, those of the largest error; all of them are in check.json.
_MOST_STEPS = 8


def print_check(report: Mapping[str, Any]) -> None:
    """Print a report (see run.Check)."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(_errors(report["errors"]))
    for kind, rows in report["operators"].items():
        if rows:
            console.print(_operators(kind, rows))
    console.print(_worst(report["steps"]))
    load = report["load"]
    console.print(
        f"Load: {load['num_requests']} requests at {load['rate_per_s']}, {load['num_steps']} steps, busy "
        f"{load['busy_frac']:.0%} (predicted {load['predicted_utilisation']:.0%}, {load['regime']}); clock: CPU time "
        f"of one thread, {load['clock_s']:.1f} s, {load['wall_s']:.1f} s by the wall with idle time skipped",
        highlight=False,
    )
    console.print(_latencies(load["latencies"]))
    if report["contended"]:
        console.print("[yellow]Taken while other programs ran:[/]")
        for reason in report["contended"]:
            console.print(f"  {reason}", highlight=False, markup=False)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def _errors(errors: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("steps", "n", "median error", "p90", "mean, signed", "one constant's median", "its p90")
    for kind, row in errors.items():
        table.add_row(
            kind, str(row["num_steps"]), *(f"{row[name]:.1%}" for name in ("median_frac", "p90_frac")),
            f"{row['mean_signed_frac']:+.1%}",
            *(f"{row[name]:.1%}" for name in ("baseline_median_frac", "baseline_p90_frac")),
        )  # fmt: skip
    return table


def _operators(kind: str, rows: list[Mapping[str, Any]]) -> Table:
    table = _table(f"{kind}: operator", "share of measured time", "predicted / measured - 1")
    for row in rows:
        table.add_row(row["name"], f"{row['share_frac']:.1%}", f"{row['error_frac']:+.0%}")
    return table


def _worst(steps: list[Mapping[str, Any]]) -> Table:
    table = _table("largest errors", "measured", "spread", "predicted", "error")
    ordered = sorted(steps, key=lambda s: -abs(s["predicted_s"] / s["measured_s"] - 1))
    for step in ordered[:_MOST_STEPS]:
        error = step["predicted_s"] / step["measured_s"] - 1
        table.add_row(
            step["name"], duration(step["measured_s"]), f"{step['spread_frac']:.1%}",
            duration(step["predicted_s"]), f"{error:+.1%}",
        )  # fmt: skip
    return table


def _latencies(rows: list[Mapping[str, Any]]) -> Table:
    table = _table("under load", "measured", "predicted", "error")
    for row in rows:
        table.add_row(
            row["name"],
            duration(row["measured_s"]),
            duration(row["predicted_s"]),
            f"{row['error_frac']:+.1%}",
        )
    return table
