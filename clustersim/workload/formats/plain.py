"""This project's own CSV: arrival_s, input_tokens, output_tokens and perhaps thinking_tokens."""

from __future__ import annotations

from pathlib import Path

from clustersim.workload.formats import Rows, read_head
from clustersim.workload.formats._csv import header, place_of, read_columns

_TIME, _INPUT, _OUTPUT, _THINKING = "arrival_s", "input_tokens", "output_tokens", "thinking_tokens"


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    return {_TIME, _INPUT, _OUTPUT} <= set(header(head))


def read(path: Path) -> Rows:
    """Read the columns; output_tokens counts thinking and answer together."""
    thinks = _THINKING in header(read_head(path))
    frame = read_columns(path, [_TIME, _INPUT, _OUTPUT] + [_THINKING] * thinks, [])
    return Rows(
        place=lambda index: place_of(path, index),
        arrival_s=frame[_TIME].to_numpy(),
        input_tokens=frame[_INPUT].to_numpy(),
        output_tokens=frame[_OUTPUT].to_numpy(),
        thinking_tokens=frame[_THINKING].to_numpy() if thinks else None,
    )
