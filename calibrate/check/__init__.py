"""`python -m calibrate check`: hold a profile against whole steps of a model, and against a load that it serves.

model.py       the Llama that is served        engine.py      continuous batching around it
steps.py       which steps, timed how          served.py      both on this machine's clock
deployment.py  the same, as the simulator sees it, and its predictions
errors.py      the two side by side            run.py         a check from the gate to the verdict
record.py      what is written                 table.py       what is printed
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("check")
@click.option("--plan", "plan", type=click.Choice(["quick", "default"]), default="default", show_default=True,
              help="How thorough: under half a minute, or under four.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of profiles; $CLUSTERSIM_PROFILES or ~/.clustersim/profiles if not given.")  # fmt: skip
@click.option("--name", default="local", show_default=True, help="Name of the profile.")
@click.option("--device", default="local-cpu", show_default=True, help="Accelerator that it describes.")
@click.option(
    "--layers", type=click.IntRange(1, 48), default=6, show_default=True, help="Of the model served."
)
@click.option(
    "--hidden", type=click.IntRange(64), default=768, show_default=True, help="Its width, heads of 64."
)
@click.option(
    "--seconds", type=click.FloatRange(1.0), help="Length of the load; 6 (quick) or 40 if not given."
)
@click.option("--share", type=click.FloatRange(0.05, 2.0), default=0.6, show_default=True,
              help="The load over the predicted capacity.")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(1), help="Of every step; 3 (quick) or 7 if not given.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of order and load.")
@click.option("--allow-contended", is_flag=True, help="Check though other programs run; the profile says so.")
@click.option("--write/--no-write", default=True, show_default=True, help="Put the errors into the profile.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def command(**given: Any) -> None:
    """Hold a profile against whole steps of a model and a load that it serves.

    Builds a Llama of random weights, times decode and prefill steps by the CPU time of one thread, serves a Poisson
    load, and asks the simulator for the same from the profile alone. Nothing is fitted here. Exits with 2 for input
    that cannot be used, with 3 where other programs disturb (see --allow-contended).

    \b
    Examples:
      python -m calibrate check --plan quick
      python -m calibrate check --name local --layers 12
      python -m calibrate check --allow-contended --no-write
    """  # noqa: D301
    from calibrate.check.run import Check

    Check(**given).run()
