"""Hold the simulation against measured serving results: each row of a table is simulated as it was measured.

rows (read the table), mapping (rules as data), loads, layout and case (a row as a scenario), predictions (simulate),
roofline (the trivial baseline), metrics (what the table's names mean), errors and result (how far off).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from clustersim.study.validation.predictions import Done, predict
from clustersim.study.validation.result import ServingValidation
from clustersim.study.validation.rows import read_rows

__all__ = ["ServingValidation", "validate_serving"]


def validate_serving(
    data: Path,
    qualities: Collection[str] = (),
    jobs: int = 1,
    done: Done = lambda _done, _total: None,
) -> ServingValidation:
    """Return how the simulation compares with a table of measured results.

    Raises InputError for a table that cannot be read; rows that cannot be simulated are refused, each with a reason.
    """
    return ServingValidation(*predict(read_rows(data, qualities), jobs=jobs, done=done))
