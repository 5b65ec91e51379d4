"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from clustersim.errors import InputError

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


@contextmanager
def within(file: str) -> Iterator[None]:
    """Name the file in messages that name no place: what is found out about a scenario while it runs."""
    try:
        yield
    except InputError as error:
        raise error.within(file) from None
