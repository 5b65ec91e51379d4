"""BurstGPT (arXiv:2401.17644, HPMLL/BurstGPT), with or without its failed requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clustersim.workload.formats import Rows
from clustersim.workload.formats._csv import header, place_of, read_columns

_TIME, _INPUT, _OUTPUT = "Timestamp", "Request tokens", "Response tokens"


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    return {_TIME, _INPUT, _OUTPUT} <= set(header(head))


def read(path: Path) -> Rows:
    """Read Timestamp (s), Request tokens, Response tokens; rows without a response are failures, dropped."""
    frame = read_columns(path, [_TIME, _INPUT, _OUTPUT], [])
    kept = np.flatnonzero(frame[_OUTPUT].to_numpy() != 0)
    num_failed = len(frame) - len(kept)
    frame = frame.iloc[kept]
    return Rows(
        place=lambda index: place_of(path, int(kept[index])),
        arrival_s=frame[_TIME].to_numpy(),
        input_tokens=frame[_INPUT].to_numpy(),
        output_tokens=frame[_OUTPUT].to_numpy(),
        num_dropped={"failed requests (no response tokens)": num_failed} if num_failed else {},
    )
