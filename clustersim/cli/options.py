"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

scenario: Decorator = click.argument("scenario", metavar="FILE|NAME")
settings: Decorator = click.option(
    "--set", "settings", multiple=True, metavar="A.B=VALUE",
    help="Change one setting; list items by index or name, e.g. --set deployments.serve-r1.replicas=4.",
)  # fmt: skip
output_format: Decorator = click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True,
    help="How to print.",
)  # fmt: skip
