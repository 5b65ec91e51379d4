"""`clustersim calibrate-from`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clustersim.cli import options

if TYPE_CHECKING:
    from clustersim.study.observations.problem import Pair
    from clustersim.study.observe import Fitted


@click.command("calibrate-from")
@click.argument("observations", nargs=-1, required=True, metavar="OBSERVATIONS...")
@click.option("--scenario", "scenarios", multiple=True, required=True, metavar="FILE|NAME",
              help="Deployment and load: one for all observations, or one for each in turn.")  # fmt: skip
@options.settings
@click.option("--deployment", metavar="NAME", help="Which deployment was observed; the first if not given.")
@click.option("--observed-as", "file_format", type=click.Choice(["auto", "vllm_bench", "aiperf", "prometheus"]),
              default="auto", show_default=True, help="Format of the observations.")  # fmt: skip
@click.option("--name", default="observed", show_default=True, help="Name of the engine that is written.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write the engine to.")
@options.output_format
def command(
    observations: tuple[str, ...], scenarios: tuple[str, ...], settings: tuple[str, ...], deployment: str | None,
    file_format: str, name: str, out: Path | None, output_format: str,
) -> None:  # fmt: skip
    """Fit a serving engine to what a running one showed, and say which correction explains how much of the error.

    Reads results of `vllm bench serve`, AIPerf's JSON export, and scrapes of vLLM's /metrics. Several observations at
    different loads tell apart what one cannot; what stays untold is said and left as it was.

    \b
    Examples:
      clustersim calibrate-from bench.json --scenario mine.yaml --out engine.yaml
      clustersim calibrate-from low.json high.json --scenario low.yaml --scenario high.yaml
      clustersim run mine.yaml --set deployments.0.serving_engine=engine.yaml
    """
    from datetime import UTC, datetime

    from clustersim.errors import InputError
    from clustersim.report.whole import check_file, write_file
    from clustersim.scenario.load import load_with_plans
    from clustersim.study.explain import pick
    from clustersim.study.observations import read_observations
    from clustersim.study.observations.problem import Pair
    from clustersim.study.observe import engine_yaml, fit

    if out is not None:
        check_file(out)
    if len(scenarios) not in (1, len(observations)):
        raise InputError(
            f"{len(observations)} observations and {len(scenarios)} scenarios: give one scenario for all, or one each"
        )
    loaded = [load_with_plans(scenario, settings) for scenario in scenarios]
    chosen = pick(loaded[0][1], deployment).index
    each_scenario = [scenario for scenario, _ in loaded] * (len(observations) if len(loaded) == 1 else 1)
    pairs = [
        Pair(read_observations(file, file_format), scenario)
        for file, scenario in zip(observations, each_scenario, strict=True)
    ]
    fitted = fit(pairs, chosen, lambda runs: click.echo(f"{runs} simulations", err=True))
    base = pairs[0].scenario.deployments[chosen].serving_engine
    date = datetime.now(UTC).date().isoformat()
    text = engine_yaml(fitted, base, name, date, [Path(file).name for file in observations])
    if out is not None:
        write_file(out, text)
    if output_format == "json":
        click.echo(json.dumps(_plain(pairs, fitted), indent=2))
    else:
        _print(pairs, fitted)
        click.echo(f"Written: {out}" if out else text)


def _plain(pairs: Sequence[Pair], fitted: Fitted) -> dict[str, Any]:
    from dataclasses import asdict
    from math import isfinite

    from clustersim.study.observations.problem import compared

    return {
        "corrections": asdict(fitted.corrections),
        "parameters": [
            {**asdict(each), "deviation": each.deviation if isfinite(each.deviation) else None}
            for each in fitted.parameters
        ],
        "removed": [asdict(each) for each in fitted.removed],
        "observations": [
            {
                "file": pair.observed.file,
                "before": compared(pair.observed, before),
                "after": compared(pair.observed, after),
                "phases_before_s": before.phases_s,
                "phases_after_s": after.phases_s,
            }
            for pair, before, after in zip(pairs, fitted.before, fitted.after, strict=True)
        ],
        "notes": fitted.notes,
    }


def _print(pairs: Sequence[Pair], fitted: Fitted) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(_metrics(pairs, fitted))
    if fitted.removed:
        console.print(_removed(fitted))
    console.print(_phases(pairs, fitted))
    console.print(_parameters(fitted))
    for note in fitted.notes:
        console.print(note, highlight=False, markup=False)


def _table(*columns: str) -> Any:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False)


def _metrics(pairs: Sequence[Pair], fitted: Fitted) -> Any:
    from clustersim.study.observations.problem import compared

    table = _table("observation", "metric", "observed", "simulated before", "error", "after", "error")
    for pair, before, after in zip(pairs, fitted.before, fitted.after, strict=True):
        old, new = compared(pair.observed, before), compared(pair.observed, after)
        for metric in old.keys() & new.keys() if old.keys() != new.keys() else old:
            seen, first = old[metric]
            _, last = new[metric]
            table.add_row(Path(pair.observed.file).name, metric, f"{seen:.4g}", f"{first:.4g}",
                          f"{first / seen - 1:+.1%}", f"{last:.4g}", f"{last / seen - 1:+.1%}")  # fmt: skip
    return table


def _removed(fitted: Fitted) -> Any:
    table = _table("correction, one after another", "mean error before", "after", "removed", "after it alone")
    for row in fitted.removed:
        table.add_row(row.name, f"{row.before_frac:.1%}", f"{row.after_frac:.1%}",
                      f"{row.before_frac - row.after_frac:+.1%}", f"{row.alone_frac:.1%}")  # fmt: skip
    table.add_row("left unexplained", "", f"{fitted.removed[-1].after_frac:.1%}", "", "")
    return table


def _phases(pairs: Sequence[Pair], fitted: Fitted) -> Any:
    from clustersim.study.observations.problem import PHASES
    from clustersim.units import duration

    table = _table("observation", "mean time of a request", *PHASES)
    for pair, before, after in zip(pairs, fitted.before, fitted.after, strict=True):
        for when, found in (("before", before), ("after", after)):
            times = [duration(found.phases_s[phase]) for phase in PHASES]
            table.add_row(Path(pair.observed.file).name, when, *times)
    return table


def _parameters(fitted: Fitted) -> Any:
    from clustersim.study.observations.corrections import PARAMETERS
    from clustersim.units import duration

    table = _table("fitted", "before", "after", "standard deviation", "")
    for each in fitted.parameters:
        say = (lambda value: f"{value:.3g}") if each.name == "step_scale" else duration
        spread = "" if each.untold else say(each.deviation)
        table.add_row(PARAMETERS[each.name], say(each.before), say(each.after), spread,
                      f"not told: {each.untold}" if each.untold else "")  # fmt: skip
    share = fitted.corrections.memory_frac
    table.add_row("share of memory", "", "as it was" if share is None else f"{share:.4f}", "", "")
    return table
