"""`clustersim list`."""

from __future__ import annotations

import json
import sys

import click

from clustersim.cli import options


@click.command("list")
@click.argument("subject", required=False)
@options.output_format
def command(subject: str | None, output_format: str) -> None:
    """List what clustersim knows of a subject; without one, list the subjects.

    \b
    Examples:
      clustersim list accelerators
      clustersim list schedulers
      clustersim list models --format json
    """
    from rich.console import Console

    from clustersim.report.tables import plain_table
    from clustersim.study.catalogue import SUBJECTS, catalogue

    if subject is None:
        rows = [{"subject": name, "number": len(catalogue(name))} for name in SUBJECTS]
    else:
        rows = catalogue(subject)
    if output_format == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    Console(width=None if sys.stdout.isatty() else 160).print(plain_table(rows))
