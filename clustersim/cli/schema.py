"""`clustersim schema`."""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON schema of scenario files.

    \b
    Example, for completion and checks in an editor:
      clustersim schema > scenario.schema.json
      # then, as the first line of a scenario:
      # yaml-language-server: $schema=scenario.schema.json
    """
    from clustersim.scenario.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
