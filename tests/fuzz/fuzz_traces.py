"""Fuzz the readers of traces with Atheris; see harness.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import fuzz


def load() -> Mapping[str, Any]:
    """Import the tests, and what they reach, instrumented."""
    import test_fuzz_traces as tests

    for text in tests.TEXTS.values():  # readers are imported when they are first asked
        tests.reads(text)
    return {
        "values": tests.test_values_of_traces_broken,
        "cells": tests.test_cells_of_traces_broken,
        "bytes": tests.test_bytes_of_traces_broken,
        "lengths": tests.test_tables_of_lengths_broken,
    }


if __name__ == "__main__":
    fuzz(load)
