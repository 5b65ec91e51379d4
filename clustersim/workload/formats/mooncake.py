"""Mooncake's traces (kvcache-ai/Mooncake, FAST'25), and the many tools that write the same form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clustersim.errors import InputError, Problem
from clustersim.workload.arrays import IntArray
from clustersim.workload.formats import Rows
from clustersim.workload.formats._json import number, objects


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    line = head.split("\n", 1)[0]
    return line.startswith("{") and '"timestamp"' in line and '"input_length"' in line


def read(path: Path) -> Rows:
    """Read lines of timestamp (ms), input_length, output_length, and hash_ids (prefix blocks) if given."""
    lines: list[int] = []
    columns: list[tuple[float, float, float]] = []
    hashes: list[list[int]] = []
    for line, row in objects(path):
        place = f"{path}:{line}"
        columns.append((
            number(row.get("timestamp"), "timestamp", place) / 1e3,
            number(row.get("input_length"), "input_length", place),
            number(row.get("output_length"), "output_length", place),
        ))  # fmt: skip
        lines.append(line)
        hashes.append(_hash_ids(row.get("hash_ids", []), place))
    times, inputs, outputs = np.array(columns, dtype=np.float64).reshape(-1, 3).T
    return Rows(
        place=lambda index: f"{path}:{lines[index]}",
        arrival_s=times,
        input_tokens=inputs,
        output_tokens=outputs,
        hash_ids=_ragged(hashes) if any(hashes) else None,
    )


def _hash_ids(value: Any, place: str) -> list[int]:
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise InputError([Problem(place, "hash_ids is no list of integers")])
    return value


def _ragged(lists: list[list[int]]) -> tuple[IntArray, IntArray]:
    """Return lists of integers as (values, offsets (n + 1,))."""
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return np.fromiter((item for items in lists for item in items), dtype=np.int64), offsets
