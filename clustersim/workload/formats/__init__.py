"""Readers of request traces. One file a format; each has `matches(head)` and `read(path)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clustersim.errors import InputError, Problem
from clustersim.text_file import check
from clustersim.workload.arrays import FloatArray, IntArray

#: Longer files are refused: CSV and JSONL are read row by row, a JSON document as a whole.
MAX_BYTES, MAX_DOCUMENT_BYTES = 8e9, 1e9
CUT = "cut it, for example with head -n"


@dataclass(frozen=True)
class Rows:
    """What a file holds, as it was read: n requests, not yet checked.

    `place(i)` says where row i was written. `hash_ids` are (values, offsets (n + 1,)): row i's blocks are
    values[offsets[i]:offsets[i + 1]], of `block_tokens` each; a format without blocks has no such size.
    """

    place: Callable[[int], str]
    arrival_s: FloatArray | None
    input_tokens: FloatArray
    output_tokens: FloatArray
    thinking_tokens: FloatArray | None = None
    hash_ids: tuple[IntArray, IntArray] | None = None
    block_tokens: int | None = None
    session_ids: IntArray | None = None
    num_dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_head(path: Path) -> str:
    """Return the first 65,536 characters of a file; raises InputError where it cannot be read."""
    check(path, MAX_BYTES, CUT)
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.read(65536)
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
