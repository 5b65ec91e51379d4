"""What a run prints at its end: a row a case, then what failed, what is missing, and where the profile is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from calibrate.fit import Row
from clustersim.cost.profile import Profile
from clustersim.units import duration, si

#: Lines of errors and of gaps that are printed; all of them are in the profile.
_MOST_LINES = 8


def print_run(
    profile: Profile, rows: Sequence[Row], errors: Sequence[Mapping[str, Any]], folder: Path, out: Path | None
) -> None:
    """Print the rows, the fits and their errors, failures, gaps, and how to use the profile."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=180)
    console.print(_rows(rows))
    console.print(_fits(profile))
    _figures(profile, console)
    failed = Counter(
        f"{e['case']['op']} {e['case']['dtype']}: {e['what']}: {str(e['text'])[:120]}" for e in errors
    )
    _listed(console, "Failed", [f"{count} x {what}" for what, count in failed.most_common()])
    _listed(console, "Gaps", [f"{what}: {why}" for what, why in profile.gaps.items()])
    quality = profile.quality
    if quality is not None and quality.contended:
        console.print(
            "[yellow]Taken while other programs ran: the profile says so, and yields to any other.[/]"
        )
    console.print(f"Profile: {folder}", highlight=False)
    if out is not None:
        console.print(f"To use it: export CLUSTERSIM_PROFILES={out.resolve()}", highlight=False)
    console.print(f"Scenarios whose nodes hold {profile.device} now rest on it.", highlight=False)


def _rows(rows: Sequence[Row]) -> Table:
    table = Table(
        "benchmark",
        "op",
        "dtype",
        "shape",
        "median",
        "spread",
        "95 % interval",
        "n",
        "flags",
        box=None,
        pad_edge=False,
    )
    for row in sorted(rows, key=lambda row: (row.case.bench, row.case.dtype)):
        summary = row.summary
        table.add_row(
            row.case.bench, row.case.op, row.case.dtype, " ".join(f"{k}={v}" for k, v in row.case.shape.items()),
            duration(summary.median_s), f"{summary.spread_s / summary.median_s:.1%}" if summary.median_s else "",
            f"{duration(summary.low_s)} to {duration(summary.high_s)}", str(summary.num_samples),
            " ".join(row.flags),
        )  # fmt: skip
    return table


def _fits(profile: Profile) -> Table:
    table = Table("family", "dtype", "compute", "memory", "overhead", "rows", "refused", "error, shapes unseen",
                  "one constant's", box=None, pad_edge=False)  # fmt: skip
    for family, fits in profile.fits.items():
        for dtype, fit in fits.items():
            error = fit.error
            table.add_row(
                family, dtype, f"{fit.compute_frac:.1%}", f"{fit.memory_frac:.1%}", duration(fit.overhead_s),
                str(fit.num_rows), str(fit.num_refused),
                f"{error.median_ape_frac:.1%}, p90 {error.p90_ape_frac:.1%}" if error else "too few rows",
                f"{error.baseline_median_ape_frac:.1%}, p90 {error.baseline_p90_ape_frac:.1%}" if error else "",
            )  # fmt: skip
    return table


def _figures(profile: Profile, console: Console) -> None:
    figures = profile.device_figures
    if figures is None:
        return
    for precision, peak in figures.peak_flops_per_s.items():
        sustained = figures.sustained_flops_per_s.get(precision)  # none where the time ran out before it
        after = f", {si(sustained.value, 'FLOP/s')} sustained" if sustained else ""
        console.print(f"{precision}: {si(peak.value, 'FLOP/s')} at its fastest{after}")
    if figures.memory_bandwidth_bytes_per_s is not None:
        console.print(f"memory: {si(figures.memory_bandwidth_bytes_per_s.value, 'B/s')}")


def _listed(console: Console, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print(f"{title}:")
    for line in lines[:_MOST_LINES]:
        console.print(f"  {line}", highlight=False, markup=False)
    if len(lines) > _MOST_LINES:
        console.print(f"  and {len(lines) - _MOST_LINES} more")
