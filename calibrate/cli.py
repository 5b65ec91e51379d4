"""`python -m calibrate`: measure this host (`run`), see what can be measured (`doctor`), check profiles (`check`)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

from clustersim.errors import InputError

#: Exit statuses: input that cannot be used, a host too busy to measure, Ctrl-C.
REFUSED, CONTENDED, INTERRUPTED = 2, 3, 130
#: Commands that live in packages of their own, imported when called: name -> (module, one line of help).
_LAZY = {
    "check": ("calibrate.check", "Hold a profile against whole steps of a model and links of known rate."),
    "cluster": ("calibrate.cluster.__main__", "Measure links, collectives and devices of a Ray cluster."),
}
#: Options of `run` that a cluster has too; the others speak of one host.
_OF_A_CLUSTER = {"plan", "out", "name", "allow_contended", "resume", "least_timeout_s", "quiet"}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_LAZY]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        module, line = _LAZY[cmd_name]
        if importlib.util.find_spec(module) is None:
            return click.Command(cmd_name, help=line, callback=_absent(cmd_name))
        command: click.Command = importlib.import_module(module).command
        return command


def _absent(name: str) -> Any:
    def say() -> None:
        raise InputError(f"`{name}` is not part of this installation")

    return say


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def cli() -> None:
    """Measure this machine and write a profile that `clustersim run` then uses.

    \b
    Examples:
      python -m calibrate doctor                   what can be measured here, and what is in the way?
      python -m calibrate run --plan quick         under a minute: does all work?
      python -m calibrate run                      under five minutes on two cores
      python -m calibrate run --plan full          as long as it takes; run it again to go on after a crash
      python -m calibrate run --address auto --out DIR    the Ray cluster at hand: links, collectives, devices
    """  # noqa: D301


@cli.command()
@click.option("--plan", "plan", type=click.Choice(["quick", "default", "full"]), default="default", show_default=True,
              help="How thorough: under 1 min, under 5 min, or all there is.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of profiles; $CLUSTERSIM_PROFILES or ~/.clustersim/profiles if not given.")  # fmt: skip
@click.option("--name", default="local", show_default=True, help="Name of the profile.")
@click.option(
    "--device",
    help="Accelerator that it describes (clustersim list accelerators); the device's own if not given.",
)
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Go on with a run that was cut short."
)
@click.option(
    "--allow-contended", is_flag=True, help="Measure though other programs run; the profile says so."
)
@click.option(
    "--bench", "benches", multiple=True, metavar="NAME", help="Only these benchmarks; may be repeated."
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=1.0),
    metavar="SECONDS",
    help="Time budget in place of the plan's.",
)
@click.option(
    "--backend",
    type=click.Choice(["cpu", "cuda", "rocm"]),
    help="What to measure; the GPU where there is one.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="Threads of a CPU; one is timed by its CPU time, several by the wall clock.")  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the order of cases."
)
@click.option(
    "--address",
    help="Measure the Ray cluster at this address instead (auto: the one at hand), as inside a Ray job.",
)
@click.option("--provider", default="calibrate.worker:local", hidden=True)
@click.option("--least-timeout", "least_timeout_s", type=float, default=30.0, hidden=True)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def run(**given: Any) -> None:
    """Measure this host and write a profile.

    Everything measured is on disk at once: after Ctrl-C, a crash or kill -9 the same command goes on where it was.
    Exits with 2 for input that cannot be used, with 3 where other programs disturb (see --allow-contended).

    \b
    Examples:
      python -m calibrate run --plan quick --allow-contended
      python -m calibrate run --bench gemm --bench membw --name gemm-only
      python -m calibrate run --plan full --threads 8 --out /mnt/profiles
    """  # noqa: D301
    from calibrate.cluster.nodes import in_ray_job

    address = given.pop("address")
    if address is not None or in_ray_job():
        _run_cluster(address or "auto", given)
        return
    from calibrate.session import Session

    Session(**given).run()


def _run_cluster(address: str, given: dict[str, Any]) -> None:
    """Measure the Ray cluster at `address`; raises InputError for options of one host, which would do nothing."""
    from calibrate.cluster.__main__ import measure

    source = click.get_current_context().get_parameter_source
    chosen = {name for name in given if source(name) is not click.core.ParameterSource.DEFAULT}
    if idle := sorted(chosen - _OF_A_CLUSTER):
        options = ", ".join(f"--{'bench' if name == 'benches' else name.replace('_', '-')}" for name in idle)
        raise InputError(
            f"{options}: of one host, without meaning for a Ray cluster; see `python -m calibrate cluster -h`"
        )
    if given["out"] is None:
        raise InputError("a cluster's results need a folder that outlives the job: give --out FOLDER")
    shared = {name: given[name] for name in _OF_A_CLUSTER & (chosen | {"plan", "least_timeout_s"})}
    measure(address=address, **shared)


@cli.command()
def doctor() -> None:
    """Say what this host can measure, what is missing or in the way, and the remedy for each."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from calibrate.doctor import examine

    table = Table("", "what", "so it is", "remedy", box=None, pad_edge=False)
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
    for each in examine():
        table.add_row(marks[each.verdict], each.subject, escape(each.what), escape(each.remedy))
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(table)


def main() -> None:
    """Run the command line; exits 2 for input that cannot be used, 130 when interrupted."""
    try:
        status = cli.main(standalone_mode=False)
        if isinstance(status, int) and status:
            sys.exit(status)
    except InputError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(REFUSED)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted: what was measured is kept; the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
