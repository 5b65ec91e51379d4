"""`clustersim compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clustersim.cli import options
from clustersim.cli.progress import progress_bar

if TYPE_CHECKING:
    from clustersim.scenario.schema import Scenario


@click.command("compare")
@click.argument("scenarios", metavar="FILE|NAME...", nargs=-1, required=True)
@click.option("--vary", "variations", multiple=True, metavar="A.B=VALUE",
              help="Compare also with the first scenario with this one setting changed.")  # fmt: skip
@options.settings
@click.option("--replications", type=click.IntRange(2), default=10, show_default=True,
              help="Runs of each scenario, under seeds that all share.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="What the shared seeds are made from; the scenarios' own are not used.")  # fmt: skip
@click.option("--by", metavar="METRIC", help="Rank by it: if not given, usd_per_output_mtok where fleets differ, "
              "capacity_requests_per_s where they are equal or made so.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="METRIC", help="Show this metric too.")
@click.option("--equal", type=click.Choice(["cost", "power", "gpus", "quality"]),
              help="Scale replicas, and the nodes that hold them, to what the first scenario has; or turn --knob until "
              "--target is reached. The demand stays.")  # fmt: skip
@click.option("--budget", metavar="AMOUNT", help="What each may have in place of what the first has: "
              "'10 M$/yr', '20 MW', '512 gpus'. Never exceeded.")  # fmt: skip
@click.option("--target", metavar="CONDITION", help="Quality that each must reach: 0.8 (of the accuracy of tasks), or "
              "'goodput_frac>=0.99'.")  # fmt: skip
@click.option("--knob", "knobs", multiple=True, metavar="A.B=LOW..HIGH",
              help="Whole-number setting whose smallest value that reaches --target is taken.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), help="Result folder; out/compare-<names>-<hash> if not given."
)
@options.output_format
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def command(
    scenarios: tuple[str, ...], variations: tuple[str, ...], settings: tuple[str, ...], replications: int, seed: int,
    by: str | None, metrics: tuple[str, ...], equal: Any, budget: str | None, target: str | None,
    knobs: tuple[str, ...], out: Path | None, output_format: str, quiet: bool,
) -> None:  # fmt: skip
    """Compare scenarios under the same seeds: which is better, by how much, and whether that is more than chance.

    The folder holds compare.html, comparison.json (every metric and difference with its interval), replications.parquet
    and each scenario as it was run (A.yaml, B.yaml, ...).

    \b
    Examples:
      clustersim compare reasoning_h100 reasoning_nvl72
      clustersim compare chat_h100 --vary deployments.chat.precision=fp8 --by p99_ttft_ms
      clustersim compare a.yaml b.yaml --equal cost
      clustersim compare a.yaml b.yaml c.yaml --budget '10 M$/yr' --metric mean_power_w
      clustersim compare a.yaml b.yaml --equal quality --target 'goodput_frac>=0.99' --knob deployments.0.replicas=1..16
    """
    from rich.console import Console

    from clustersim.report.compare_console import print_comparison
    from clustersim.report.compare_folder import check, default_folder, write
    from clustersim.report.folder import strict_json
    from clustersim.report.whole import check_room
    from clustersim.study.compare import compare

    check(out) if out is not None else check_room(Path("out") / "compare")
    loaded = [_load(each, settings) for each in scenarios]
    loaded += [_load(scenarios[0], (*settings, each)) for each in variations]
    names = [_name(each) for each in scenarios] + _varied(_name(scenarios[0]), variations)
    bar = progress_bar(quiet)
    with bar:
        task = bar.add_task("simulating", total=len(loaded) * replications)
        found = compare(
            *loaded, replications=replications, equal=equal, seed=seed, by=by, metrics=metrics, budget=budget,
            target=target, knobs=knobs, names=names,
            done=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
        bar.add_task("writing the report", total=None)
        paths = write(found, out or default_folder(found))
    if output_format == "json":
        click.echo(strict_json(found.as_json()), nl=False)
    else:
        print_comparison(found, Console(width=None if sys.stdout.isatty() else 104), paths)


def _load(source: str, settings: tuple[str, ...]) -> Scenario:
    from clustersim.scenario.load import load_with_plans

    return load_with_plans(source, settings)[0]


def _name(source: str) -> str:
    path = Path(source)
    return path.stem if path.suffix in (".yaml", ".yml") else source


def _varied(name: str, variations: tuple[str, ...]) -> list[str]:
    """Return names for variations: the last key and its value, the whole path where two look alike."""
    short = [each.partition("=")[0].rpartition(".")[2] + "=" + each.partition("=")[2] for each in variations]
    unique = len(set(short)) == len(short)
    return [f"{name}, {each}" for each in (short if unique else variations)]
