"""BurstGPT (arXiv:2401.17644, HPMLL/BurstGPT), with or without its failed requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clustersim.workload.arrays import IntArray
from clustersim.workload.formats import Rows, read_head
from clustersim.workload.formats._csv import header, place_of, read_columns

if TYPE_CHECKING:
    import pandas as pd

_TIME, _INPUT, _OUTPUT = "Timestamp", "Request tokens", "Response tokens"
_SESSION = "Session ID"


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    return {_TIME, _INPUT, _OUTPUT} <= set(header(head))


def read(path: Path) -> Rows:
    """Read Timestamp (s), Request tokens, Response tokens; rows without a response are failures, dropped."""
    sessions = [_SESSION] if _SESSION in header(read_head(path)) else []
    frame = read_columns(path, [_TIME, _INPUT, _OUTPUT], sessions)
    kept = np.flatnonzero(frame[_OUTPUT].to_numpy() != 0)
    num_failed = len(frame) - len(kept)
    frame = frame.iloc[kept]
    return Rows(
        place=lambda index: place_of(path, int(kept[index])),
        arrival_s=frame[_TIME].to_numpy(),
        input_tokens=frame[_INPUT].to_numpy(),
        output_tokens=frame[_OUTPUT].to_numpy(),
        session_ids=_codes(frame[_SESSION]) if sessions else None,
        num_dropped={"failed requests (no response tokens)": num_failed} if num_failed else {},
    )


def _codes(names: pd.Series[str]) -> IntArray:
    """Return a number (n,) for each session, in order of first appearance."""
    return names.factorize()[0].astype(np.int64)
