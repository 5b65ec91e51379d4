"""`clustersim tradeoff`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from clustersim.cli import options
from clustersim.cli.progress import progress_bar


@click.command("tradeoff")
@click.argument("study", metavar="FILE|NAME")
@options.settings
@click.option("--seed", type=click.IntRange(0), help="In place of the study's own seed.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Result folder; out/tradeoff-<name>-<hash> if not given."
)
@options.output_format
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def command(
    study: str, settings: tuple[str, ...], seed: int | None, out: Path | None, output_format: str, quiet: bool
) -> None:
    """Train more, or think longer? The cheapest way to a quality target for a demand, within an SLO.

    Serving is simulated, training is computed, quality is a model with its doubts drawn. The folder holds
    tradeoff.html, tradeoff.json, study.yaml and cells.parquet (a row a simulated cell).

    \b
    Examples:
      clustersim tradeoff train_or_think
      clustersim tradeoff train_or_think --set demand.queries_per_day=1e9 --set target.accuracy=0.9
      clustersim tradeoff mine.yaml --seed 1 --out out/mine
      clustersim tradeoff train_or_think --format json
    """
    from rich.console import Console

    from clustersim.report.folder import strict_json
    from clustersim.report.tradeoff_console import print_tradeoff
    from clustersim.report.tradeoff_folder import check, default_folder, write
    from clustersim.report.whole import check_room
    from clustersim.study.tradeoff import load_study, tradeoff

    check(out) if out is not None else check_room(Path("out") / "tradeoff")
    asked = load_study(study, settings)
    bar = progress_bar(quiet)
    with bar:
        task = bar.add_task("simulating", total=None)
        found = tradeoff(
            asked, seed=seed, done=lambda done, total: bar.update(task, completed=done, total=total)
        )
        bar.add_task("writing the report", total=None)
        paths = write(found, out or default_folder(found))
    if output_format == "json":
        click.echo(strict_json(found.as_json()), nl=False)
    else:
        print_tradeoff(found, Console(width=None if sys.stdout.isatty() else 104), paths)
