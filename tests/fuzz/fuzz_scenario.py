"""Fuzz the loader of scenarios with Atheris; see harness.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import fuzz


def load() -> Mapping[str, Any]:
    """Import the tests, and what they reach, instrumented."""
    import test_fuzz_scenario as tests

    for document in tests.DOCUMENTS.values():  # parts are imported when they are first named
        tests.loads(document)
    return {
        "parts": tests.test_parts_of_scenarios_broken,
        "texts": tests.test_texts_of_scenarios_broken,
        "settings": tests.test_settings_broken,
        "bytes": tests.test_any_bytes_at_all,
    }


if __name__ == "__main__":
    fuzz(load)
