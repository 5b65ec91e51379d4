"""`python -m calibrate cluster`: measure the Ray cluster that this host belongs to."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from calibrate.cluster.collectives import OPS
from clustersim.errors import InputError


@click.command("cluster", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--address", default="auto", show_default=True, help="Ray's; inside a Ray job, the job's own cluster."
)
@click.option("--plan", type=click.Choice(["quick", "default", "full"]), default="default", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of results."
)
@click.option("--name", default="cluster", show_default=True, help="Name of the results.")
@click.option(
    "--op", "ops", multiple=True, type=click.Choice(["p2p", *OPS]), help="Only these; may be repeated."
)
@click.option(
    "--sweep/--no-sweep", default=True, show_default=True, help="Benchmarks on all devices at once."
)
@click.option("--interface", help="Network interface of the data traffic, the same on every node.")
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Go on with a run that was cut short."
)
@click.option(
    "--allow-contended", is_flag=True, help="Keep what was taken while other programs ran; it is marked."
)
@click.option("--quiet", "-q", is_flag=True, help="No line a case.")
def command(**given: Any) -> None:
    """Measure links, collectives and devices of a Ray cluster.

    Inside a Ray job the job's own cluster is measured. Run it again to go on where it was cut.

    \b
    Examples:
      python -m calibrate cluster --out /nfs/results --plan quick
      python -m calibrate cluster --out /nfs/results --op p2p --no-sweep --interface eth1
      ray job submit --address http://HEAD:8265 -- python -m calibrate cluster --out /nfs/results
    """  # noqa: D301
    given["ops"] = given["ops"] or ("p2p", *OPS)
    measure(**given)


def measure(**given: Any) -> None:
    """Measure as `calibrate.cluster.run.main` does, and print what was found; raises InputError."""
    from calibrate.cluster.run import main

    result = main(**given)
    for fit in result.links:
        if fit.bandwidth_bytes_per_s is None or fit.latency_s is None:
            click.echo(f"{fit.a} - {fit.b}: missing: {fit.missing}")
            continue
        low, high = fit.bandwidth_bytes_per_s.low / 1e6, fit.bandwidth_bytes_per_s.high / 1e6
        slower = f", {fit.contention_factor:.2f} times as long together" if fit.contention_factor else ""
        click.echo(
            f"{fit.a} - {fit.b}: {fit.bandwidth_bytes_per_s.value / 1e6:.2f} MB/s ({low:.2f} to {high:.2f}), "
            f"{fit.latency_s.value * 1e3:.3f} ms, burst {fit.burst_bytes.value / 1e3:.0f} kB, {fit.quality}{slower}"
        )
    for rank in result.stragglers:
        click.echo(f"slow: {rank}")
    for name, why in result.quarantined.items():
        click.echo(f"left out: {name}: {why}")
    for why, number in Counter(result.gaps.values()).items():
        click.echo(
            f"not measured: {number} {'case' if number == 1 else 'cases'}, named in cluster.yaml: {why}"
        )
    click.echo(f"Results: {result.folder}")


def alone() -> None:
    """Run `command` by itself; exits 2 for input that cannot be used."""
    try:
        command()
    except InputError as error:
        click.echo("\n".join(map(str, error.problems)), err=True)
        sys.exit(2)


if __name__ == "__main__":
    alone()
