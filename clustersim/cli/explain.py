"""`clustersim explain`."""

from __future__ import annotations

import json
import sys

import click

from clustersim.cli import options


@click.command("explain")
@options.scenario
@options.settings
@click.option("--deployment", metavar="NAME", help="Which deployment; the first if not given.")
@click.option("--step", type=click.Choice(["prefill", "decode", "both"]), default="both", show_default=True,
              help="Which step to account for.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True,
              help="Sequences in the decode step, on all ranks of a replica.")  # fmt: skip
@click.option(
    "--context", metavar="TOKENS", default="4k", show_default=True, help="Context of each, e.g. 4096 or 4k."
)
@click.option(
    "--tokens", metavar="TOKENS", default="2k", show_default=True, help="Tokens in the prefill step."
)
@click.option(
    "--past", metavar="TOKENS", default="0", show_default=True, help="Tokens cached before the prefill."
)
@options.output_format
def command(
    scenario: str, settings: tuple[str, ...], deployment: str | None, step: str, batch: int, context: str,
    tokens: str, past: str, output_format: str,
) -> None:  # fmt: skip
    """Account for one prefill and one decode step, operator by operator: FLOP, bytes, seconds, what binds, source.

    Counts and times are those of the busiest accelerator of one replica.

    \b
    Examples:
      clustersim explain reasoning_h100
      clustersim explain reasoning_h100 --step decode --batch 256 --context 4k
      clustersim explain mine.yaml --set fleet.0.clusters.0.node=hgx-b200 --format json
    """
    from clustersim.models.step import StepShape
    from clustersim.scenario.load import load_with_plans
    from clustersim.study.explain import explain, pick

    _, plans = load_with_plans(scenario, settings)
    plan = pick(plans, deployment)
    shapes = {
        "prefill": StepShape.prefill(_count(tokens), _count(past, least=0)),
        "decode": StepShape.decode(batch, _count(context)),
    }
    steps = [explain(plan, name, shapes[name]) for name in shapes if step in (name, "both")]
    if output_format == "json":
        click.echo(json.dumps({each.name: each.as_dict() for each in steps}, indent=2))
        return
    from rich.console import Console

    from clustersim.report.tables import memory_table, step_table

    console = Console(width=None if sys.stdout.isatty() else 140)
    for each in steps:
        console.print(step_table(each))
    console.print(memory_table(plan))


def _count(text: str, least: int = 1) -> int:
    """Return a number of tokens from "4096", "4k" (1024s, as context lengths are named) or "1M"."""
    scale = {"k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "m": 1 << 20}.get(text[-1:], 1)
    digits = text[:-1] if scale > 1 else text
    if not digits.isdigit() or int(digits) * scale < least:
        raise click.BadParameter(f'"{text}" is not a number of tokens; write it like 4096 or 4k')
    return int(digits) * scale
