"""`clustersim validate`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from clustersim.cli.progress import progress_bar


@click.group("validate")
def command() -> None:
    """Hold the simulation against what was measured on real machines.

    \b
    Examples:
      clustersim validate serving --data serving.csv
      clustersim validate serving --data serving.csv --quality A,A- --json errors.json
    """


@command.command("serving")
@click.option("--data", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="CSV",
              help="Table of measured serving results, one value a row.")  # fmt: skip
@click.option("--quality", metavar="A,A-,...", help="Only rows of these qualities; all if not given.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the errors there too.")  # fmt: skip
@click.option("--rows", "rows_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Write every row there, with its prediction, or why it was refused, as CSV.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Simulations at a time.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def serving(
    data: Path, quality: str | None, json_file: Path | None, rows_file: Path | None, jobs: int, quiet: bool
) -> None:
    """Simulate every row of a table of measured serving results as it was measured, and print the errors.

    A row is a static batch, a closed loop of so many users, requests queued all at once, or a trace of arrivals, on
    one engine, model and layout. Errors are absolute percentages, overall and by source, engine, GPU and model, beside
    the trivial baseline (the roofline times one constant). Rows that cannot be simulated are refused with a reason.

    \b
    Examples:
      clustersim validate serving --data serving.csv
      clustersim validate serving --data serving.csv --quality A,A- --json errors.json
      clustersim validate serving --data mine.csv --jobs 4 --rows predicted.csv
    """
    from rich.console import Console

    from clustersim.report.validation_console import print_validation
    from clustersim.report.validation_files import check_files, errors_json, rows_csv, write_whole
    from clustersim.study.validation import validate_serving

    files = [file for file in (json_file, rows_file) if file is not None]
    check_files(files, data)
    qualities = tuple(part.strip() for part in quality.split(",")) if quality is not None else ()
    bar = progress_bar(quiet)
    with bar:
        task = bar.add_task("simulating", total=None)
        found = validate_serving(
            data, qualities, jobs, lambda done, total: bar.update(task, completed=done, total=total)
        )
    texts = {}
    if json_file is not None:
        texts[json_file] = errors_json(found)
    if rows_file is not None:
        texts[rows_file] = rows_csv(found)
    write_whole(texts)
    print_validation(found, Console(width=None if sys.stdout.isatty() else 130), files)
