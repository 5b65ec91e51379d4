"""Mooncake's traces (kvcache-ai/Mooncake, FAST'25), and the many tools that write the same form."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np

from clustersim.errors import InputError, Problem
from clustersim.workload.formats import Rows
from clustersim.workload.formats._json import number, objects

#: Tokens of a prefix block in Mooncake's own traces.
BLOCK_TOKENS = 512
_SEEN = 60  # characters of a value that errors show


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    line = head.split("\n", 1)[0]
    return line.startswith("{") and '"timestamp"' in line and '"input_length"' in line


def read(path: Path) -> Rows:
    """Read lines of timestamp (ms), input_length, output_length, and hash_ids (prefix blocks) if given.

    A block's id stands for its tokens and all before them; the last block of an input need not be full. A row without
    hash_ids, or with an empty list, shares nothing that is known.
    """
    lines, columns = array("q"), array("d")
    ids, offsets = array("q"), array("q", [0])
    for line, row in objects(path):
        place = f"{path}:{line}"
        columns.append(number(row.get("timestamp"), "timestamp", place) / 1e3)
        columns.append(number(row.get("input_length"), "input_length", place))
        columns.append(number(row.get("output_length"), "output_length", place))
        lines.append(line)
        _read_ids(row.get("hash_ids", []), ids, place)
        offsets.append(len(ids))
    times, inputs, outputs = np.array(columns, dtype=np.float64).reshape(-1, 3).T
    return Rows(
        place=lambda index: f"{path}:{lines[index]}",
        arrival_s=times,
        input_tokens=inputs,
        output_tokens=outputs,
        hash_ids=(np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64)) if len(ids) else None,
        block_tokens=BLOCK_TOKENS,
    )


def _read_ids(value: Any, ids: array[int], place: str) -> None:
    """Append the ids of one row; raises InputError where they are no integers of 64 bits."""
    if not isinstance(value, list):
        raise InputError([Problem(place, f"hash_ids is no list of integers but {value!r:.{_SEEN}}")])
    for item in value:
        if type(item) is not int:
            raise InputError([Problem(place, f"hash_ids is no list of integers: it has {item!r:.{_SEEN}}")])
        if not -(2**63) <= item < 2**63:
            what = f"hash id {item!r:.{_SEEN}} has more than 64 bits; number the blocks from 0 instead"
            raise InputError([Problem(place, what)])
    ids.extend(value)
