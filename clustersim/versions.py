"""Versions of installed packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package, which is read from its files once."""
    return version(package)
