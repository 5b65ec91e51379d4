"""`clustersim run`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clustersim.cli import options
from clustersim.cli.progress import progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress

    from clustersim.scenario.schema import Scenario
    from clustersim.study.replicate import Replications


@click.command("run")
@options.scenario
@options.settings
@click.option("--seed", type=click.IntRange(0), help="Seed in place of the scenario's.")
@click.option("--replications", type=click.IntRange(1), default=1, show_default=True,
              help="Run under so many independent seeds and give 95 % intervals.")  # fmt: skip
@click.option("--assert", "assertions", multiple=True, metavar="CONDITION",
              help="Exit with 3 unless it holds, for the mean of replications, e.g. 'p99_ttft_ms<2000'.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), help="Result folder; out/<scenario>-<hash> if not given."
)
@options.output_format
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def command(
    scenario: str, settings: tuple[str, ...], seed: int | None, replications: int, assertions: tuple[str, ...],
    out: Path | None, output_format: str, quiet: bool,
) -> None:  # fmt: skip
    """Simulate a scenario, print a summary, and write a result folder.

    The folder holds result.json, requests.parquet, timeline.parquet, report.html, trace.json (open it in Perfetto)
    and scenario.yaml, which reproduces it all.

    \b
    Examples:
      clustersim run reasoning_h100
      clustersim run azure_conversation --set workload.trace.path=AzureLLMInferenceTrace_conv.csv
      clustersim run mine.yaml --replications 10 --assert 'p99_ttft_ms<2000'
    """
    from rich.console import Console

    from clustersim.report.console import print_summary
    from clustersim.report.folder import check_folder, default_folder, write
    from clustersim.report.tables import replications_table
    from clustersim.report.whole import check_room
    from clustersim.scenario.load import load_with_plans
    from clustersim.simulation import simulate
    from clustersim.study.assertions import parse

    conditions = [parse(text) for text in assertions]
    loaded, _ = load_with_plans(scenario, settings)
    check_folder(out) if out is not None else check_room(Path("out") / "result")
    bar = progress_bar(quiet)
    with bar:
        task = bar.add_task("simulating", total=None)

        def progress(finished: int, total: int | None, now_s: float) -> None:
            if total is None and loaded.horizon_s:
                bar.update(task, completed=now_s, total=loaded.horizon_s)
            else:
                bar.update(task, completed=finished, total=total)

        with options.within(scenario):
            result = simulate(loaded, seed, progress)
            several = _replicate(loaded, replications, seed, bar) if replications > 1 else None
        bar.add_task("writing the report", total=None)
        metrics: dict[str, Any] = result.metrics
        if several is not None:
            metrics["replications"] = {"seeds": several.seeds, "intervals_95": several.intervals}
        folder = out or default_folder(result)
        paths = write(result, folder)
    judged = metrics if several is None else several.means(metrics)
    failures = [failure for failure in (each.failure(judged) for each in conditions) if failure]
    if output_format == "json":
        click.echo(json.dumps(metrics, indent=2, allow_nan=False))
    else:
        console = Console(width=None if sys.stdout.isatty() else 104)
        print_summary(result, console, paths)
        if several is not None:
            console.print(replications_table(several.intervals))
    for failure in failures:
        click.echo(f"assertion failed: {failure}", err=True)
    if failures:
        sys.exit(3)


def _replicate(scenario: Scenario, num: int, seed: int | None, bar: Progress) -> Replications:
    from clustersim.study.replicate import replicate

    task = bar.add_task("replications", total=num)
    return replicate(scenario, num, seed, lambda done: bar.update(task, completed=done))
