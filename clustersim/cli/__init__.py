"""The command line. Each command lives in a module of its own, imported when it is called, so that help is quick."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Mapping
from types import MappingProxyType

import click

from clustersim.cli.stop import drop_output, exit_code, heed_sigterm
from clustersim.errors import InputError, InternalError

#: Command -> (module, one line of help).
_COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "run": ("run", "Simulate a scenario, print a summary, write a result folder."),
        "compare": (
            "compare",
            "Compare scenarios under the same seeds: which is better, and how sure is that?",
        ),
        "tradeoff": ("tradeoff", "Train more, or think longer? The cheapest way to a quality target."),
        "check": ("check", "Check a scenario: its form, its names, and whether the models fit in memory."),
        "explain": ("explain", "Account for one prefill and one decode step, operator by operator."),
        "claims": ("claims", "Check public claims about test-time compute: what was said, what is found."),
        "validate": ("validate", "Simulate measured results as they were measured: how far off is it?"),
        "calibrate-from": ("calibrate_from", "Fit a serving engine to what a running one showed."),
        "list": ("listing", "List accelerators, models, nodes, links, sites, workloads, schedulers, ..."),
        "schema": ("schema", "Print the JSON schema of scenario files, for editors and checks."),
    }
)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"clustersim.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from clustersim.errors import unknown

            raise click.UsageError(unknown("command", args[0], _COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="clustersim", message="clustersim %(version)s")
def cli() -> None:
    """Simulate GPU fleets that serve reasoning workloads: latency, throughput, cost and energy, with sources.

    \b
    Examples:
      clustersim run reasoning_h100                    a built-in scenario
      clustersim run mine.yaml --set deployments.0.replicas=4
      clustersim check mine.yaml                       is it right, and does the model fit?
      clustersim explain reasoning_h100 --batch 256    where does a step's time go?
      clustersim list accelerators
    """


def main() -> None:
    """Run the command line. Exit codes: docs/howto/assert-in-ci.md."""
    heed_sigterm()
    try:
        cli.main(standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(2)
    except InternalError as error:
        click.echo(str(error), err=True)
        sys.exit(70)
    except (KeyboardInterrupt, click.exceptions.Abort) as error:
        click.echo("stopped; a result is written whole or not at all", err=True)
        sys.exit(exit_code(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MemoryError:
        click.echo(
            "not enough memory for this: fewer requests, a shorter horizon or fewer replicas", err=True
        )
        sys.exit(2)
    except BrokenPipeError:
        drop_output()
        sys.exit(141)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        drop_output()
        click.echo(f"cannot print the result: {error.strerror}", err=True)
        sys.exit(2)
