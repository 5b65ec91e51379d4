"""`clustersim check`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from clustersim.cli import options


@click.command("check")
@options.scenario
@options.settings
@options.output_format
def command(scenario: str, settings: tuple[str, ...], output_format: str) -> None:
    """Check a scenario without running it, and say what it would occupy.

    \b
    Examples:
      clustersim check mine.yaml
      clustersim check reasoning_h100 --set deployments.0.parallelism.ep=16
    """
    from clustersim.scenario.load import load_with_plans
    from clustersim.workload.generate import Sampler

    loaded, plans = load_with_plans(scenario, settings)
    with options.within(scenario):
        for workload in loaded.workloads:  # reads its trace and its tables of lengths
            Sampler(workload, loaded.seed).draw(1)
    rows: list[dict[str, Any]] = []
    for plan in plans:
        memory, deployment = plan.memory, plan.deployment
        rows.append(
            {
                "deployment": deployment.name,
                "model": deployment.model.name,
                "accelerators": f"{plan.num_accelerators} x {plan.cluster.node.accelerator.name}",
                "memory_gb": {what: round(size / 1e9, 3) for what, size in memory.rows()},
                "kv_capacity_tokens": memory.kv_tokens,
                "longest_request_tokens": min(plan.max_model_len, memory.tokens_per_rank),
                "profile": f"{plan.profile.name} ({plan.profile.evidence})",
            }
        )
    if output_format == "json":
        click.echo(json.dumps({"scenario": loaded.name, "deployments": rows}, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape

    from clustersim.report.tables import memory_table

    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(f"[bold]{escape(loaded.name)}[/]: all is well")
    for plan in plans:
        console.print(memory_table(plan))
