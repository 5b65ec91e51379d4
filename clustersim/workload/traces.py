"""Recorded requests, from the formats that public traces and benchmarks use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clustersim.errors import InputError, Problem, unknown
from clustersim.workload.arrays import MAX_TOKENS, FloatArray, IntArray
from clustersim.workload.formats import Rows, read_head
from clustersim.workload.summary import Summary, summarise

#: Format -> the module that reads it, in the order in which `auto` asks them.
FORMATS = ("azure", "burstgpt", "plain", "mooncake", "vllm_bench", "vllm_custom", "sharegpt")
#: 30,000 years: no clock shows more.
_MAX_TIME_S = 1e12
_ALIASES = {"azure_2023": "azure", "azure_2024": "azure"}


class _Format(Protocol):
    def matches(self, head: str) -> bool: ...
    def read(self, path: Path) -> Rows: ...


@cache
def _format(name: str) -> _Format:
    module: _Format = import_module(f"clustersim.workload.formats.{name}")
    return module


@dataclass(frozen=True)
class Trace:
    """n recorded requests in order of arrival.

    `arrival_s` (n,) begins at 0 and is None where the file has no times; `output_tokens` (n,) counts thinking
    and answer, `thinking_tokens` (n,) is 0 where unknown. Prefix blocks of row i, if recorded, are
    hash_ids[hash_offsets[i]:hash_offsets[i + 1]], of `block_tokens` each but the last, which may be shorter.
    """

    file: str
    format: str
    arrival_s: FloatArray | None
    input_tokens: IntArray
    output_tokens: IntArray
    thinking_tokens: IntArray
    hash_ids: IntArray | None = None
    hash_offsets: IntArray | None = None
    block_tokens: int | None = None
    session_ids: IntArray | None = None
    num_dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.input_tokens)

    def summary(self) -> Summary:
        """Return count, span, rate, burstiness, and quantiles of each length."""
        answer = self.output_tokens - self.thinking_tokens
        return summarise(self.arrival_s, self.input_tokens, self.thinking_tokens, answer)


def read_trace(
    path: str | Path,
    format: str = "auto",
    *,
    sort: bool = False,
    rebase: bool = True,
    block_tokens: int | None = None,
) -> Trace:
    """Read a trace; `sort` orders rows by time, `rebase` moves the first arrival to 0.

    block_tokens: size of the prefix blocks, where it is not that of the format.
    Raises InputError, with file and line, for a file of no known format or with a row that cannot be used.
    """
    path = Path(path)
    head = read_head(path).lstrip()
    if not head:
        raise InputError([Problem(str(path), "is empty")])
    name = _detect(path, head) if format == "auto" else _ALIASES.get(format, format)
    if name not in FORMATS:
        raise InputError(unknown("trace format", format, FORMATS))
    rows = _format(name).read(path)
    if len(rows.input_tokens) == 0:
        dropped = "".join(f"; dropped: {num} {what}" for what, num in rows.num_dropped.items())
        raise InputError([Problem(str(path), f"holds no request{dropped}")])
    _check(rows)
    if block_tokens is not None and rows.hash_ids is None:
        raise InputError(
            [Problem(str(path), "has no hash_ids, so `block_tokens` has no effect; leave it out")]
        )
    block_tokens = block_tokens or rows.block_tokens
    _check_blocks(rows, block_tokens)
    order = _order(rows, sort)
    arrival_s = rows.arrival_s
    if arrival_s is not None:
        arrival_s = arrival_s if order is None else arrival_s[order]
        arrival_s = arrival_s - arrival_s[0] if rebase else arrival_s
    hash_ids, offsets = _reorder(rows.hash_ids, order)
    thinking = rows.thinking_tokens if rows.thinking_tokens is not None else np.zeros(len(rows.input_tokens))
    return Trace(
        file=str(path),
        format=name,
        arrival_s=arrival_s,
        input_tokens=_counts(rows.input_tokens, order),
        output_tokens=_counts(rows.output_tokens, order),
        thinking_tokens=_counts(thinking, order),
        hash_ids=hash_ids,
        hash_offsets=offsets,
        block_tokens=None if hash_ids is None else block_tokens,
        session_ids=rows.session_ids
        if rows.session_ids is None or order is None
        else rows.session_ids[order],
        num_dropped=rows.num_dropped,
        notes=rows.notes,
    )


def _detect(path: Path, head: str) -> str:
    """Return the one format whose signature the beginning of the file bears."""
    found = [name for name in FORMATS if _format(name).matches(head)]
    if len(found) == 1:
        return found[0]
    seen = head.split("\n", 1)[0][:80]
    matched = f"may be {' or '.join(found)}" if found else "is of no known trace format"
    what = f'{matched}; it begins with "{seen}"; say `format:` one of {", ".join(FORMATS)}'
    raise InputError([Problem(str(path), what)])


def _check(rows: Rows) -> None:
    """Raise InputError at the first row with a value that no request can have."""
    columns = {"input tokens": (rows.input_tokens, 1), "output tokens": (rows.output_tokens, 1)}
    if rows.thinking_tokens is not None:
        columns["thinking tokens"] = (rows.thinking_tokens, 0)
    for name, (column, least) in columns.items():
        with np.errstate(invalid="ignore"):
            sound = (column >= least) & (column == np.floor(column)) & (column <= MAX_TOKENS)
        texts = [f"{value:g} {name}" for value in column[~sound][:1]]
        _refuse(
            rows,
            ~sound,
            f"{''.join(texts)}; a whole number of {least} or more, up to {MAX_TOKENS:g}, is needed",
        )
    if rows.arrival_s is not None:
        with np.errstate(invalid="ignore"):
            sound = np.abs(rows.arrival_s) <= _MAX_TIME_S
        _refuse(rows, ~sound, "the time is not a finite number of seconds below 1e12")
    if rows.thinking_tokens is not None:
        what = "all output tokens are thinking; the answer needs one at least"
        _refuse(rows, rows.thinking_tokens >= rows.output_tokens, what)


def _check_blocks(rows: Rows, size: int | None) -> None:
    """Raise InputError at the first row with prefix blocks, of `size` tokens, too few or too many for its input.

    Every full block has an id; one that is not full may have one, as it has in every row of Mooncake's own traces.
    """
    if rows.hash_ids is None or size is None:
        return
    counts = np.diff(rows.hash_ids[1])
    full = np.floor_divide(rows.input_tokens, size)
    bad = (counts > 0) & ((counts < full) | (counts > np.ceil(rows.input_tokens / size)))
    for row in np.flatnonzero(bad)[:1]:
        tokens, right = rows.input_tokens[row], -(-int(rows.input_tokens[row]) // size)
        what = f"hash_ids has {counts[row]:,} blocks where {tokens:,.0f} input tokens make {right:,} of {size} tokens"
        _refuse(rows, bad, f"{what}; if the file's blocks have another size, set the trace's `block_tokens`")


def _refuse(rows: Rows, bad: npt.NDArray[np.bool_], what: str) -> None:
    if num := int(bad.sum()):
        more = f" (and {num - 1:,} more such rows)" if num > 1 else ""
        raise InputError([Problem(rows.place(int(bad.argmax())), what + more)])


def _order(rows: Rows, sort: bool) -> IntArray | None:
    """Return the order (n,) that sorts rows by time, None where they are; InputError unless `sort`."""
    if rows.arrival_s is None:
        return None
    back = np.flatnonzero(np.diff(rows.arrival_s) < 0)
    if len(back) == 0:
        return None
    if not sort:
        before, after = rows.arrival_s[back[0] : back[0] + 2]
        what = f"the time goes back, from {before:.12g} s to {after:.12g} s"
        mend = "set `sort: true` to order rows by time"
        raise InputError([Problem(rows.place(int(back[0]) + 1), f"{what}; {mend}")])
    return np.argsort(rows.arrival_s, kind="stable").astype(np.int64)


def _counts(column: FloatArray, order: IntArray | None) -> IntArray:
    counts = column.astype(np.int64)
    return counts if order is None else counts[order]


def _reorder(
    ragged: tuple[IntArray, IntArray] | None, order: IntArray | None
) -> tuple[IntArray | None, IntArray | None]:
    """Return (values, offsets) of a ragged column with its rows in `order`."""
    if ragged is None or order is None:
        return ragged or (None, None)
    values, offsets = ragged
    counts = np.diff(offsets)[order]
    moved = np.append(0, np.cumsum(counts))
    return values[np.arange(len(values)) + np.repeat(offsets[:-1][order] - moved[:-1], counts)], moved
