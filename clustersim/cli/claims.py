"""`clustersim claims`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clustersim.cli.progress import progress_bar

if TYPE_CHECKING:
    from clustersim.study.claims import Finding

_EXPLAIN = "explain"


@click.command("claims")
@click.argument("names", metavar="[explain] [ID|FILE...]", nargs=-1)
@click.option("--format", "output_format", type=click.Choice(["table", "json", "markdown"]), default="table",
              show_default=True, help="How to print.")  # fmt: skip
@click.option("--json", "output_format", flag_value="json", help="The same as --format json.")
@click.option("--html", "page", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a page with all derivations too.")  # fmt: skip
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def command(names: tuple[str, ...], output_format: str, page: Path | None, quiet: bool) -> None:
    """Check claims made in public about test-time compute and scaling: what was said, what is found, and the verdict.

    Claims are files (`clustersim list claims`); one of your own works as well. Exits with 3 if a value differs from its
    calculation by hand.

    \b
    Examples:
      clustersim claims                        all of them, in half a minute
      clustersim claims A8 B2 mine.yaml
      clustersim claims explain A8             every number, and where it comes from
      clustersim claims --html claims.html
    """
    from clustersim.report.claims_html import html
    from clustersim.report.whole import check_file, write_file

    if page is not None:
        check_file(page)
    explains = names[:1] == (_EXPLAIN,)
    if explains and len(names) == 1:
        raise click.UsageError("explain which claim? Give its id: clustersim claims explain A8")
    if explains and output_format == "markdown":
        raise click.UsageError(
            "a derivation is printed as a table or as JSON; markdown is for the table of claims"
        )
    findings = _checked(names[1:] if explains else names, quiet)
    if page is not None:
        write_file(page, html(findings))
    _print(findings, output_format, explains)
    off = [f"claim {found.claim.id}: {line.step.name} is {line.shown}, by hand {line.by_hand}"
           for found in findings for line in found.off_hand]  # fmt: skip
    for text in off:
        click.echo(text, err=True)
    if off:
        sys.exit(3)


def _checked(names: tuple[str, ...], quiet: bool) -> list[Finding]:
    from clustersim.study.claims import check, load_claims

    claims = load_claims(names)
    bar = progress_bar(quiet)
    with bar:
        task = bar.add_task("checking", total=None)
        return check(claims, lambda done, total: bar.update(task, completed=done, total=total))


def _print(findings: list[Finding], output_format: str, explains: bool) -> None:
    from rich.console import Console

    from clustersim.report.claims_console import derivation, table
    from clustersim.report.claims_html import as_json, markdown

    if output_format == "json":
        click.echo(json.dumps(as_json(findings), indent=2))
        return
    if output_format == "markdown":
        click.echo(markdown(findings))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    for found in findings if explains else ():
        console.print(derivation(found), highlight=False)
    if not explains:
        console.print(table(findings), highlight=False)
