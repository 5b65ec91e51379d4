"""Azure LLM inference traces of 2023 and 2024 (Azure/AzurePublicDataset)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clustersim.errors import InputError, Problem
from clustersim.workload.formats import Rows
from clustersim.workload.formats._csv import header, place_of, read_columns, refuse_malformed

_TIME, _INPUT, _OUTPUT = "TIMESTAMP", "ContextTokens", "GeneratedTokens"
#: Nanoseconds between any two times in them fit into 64 bits.
_YEARS = (1970, 2261)


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    return {_TIME, _INPUT, _OUTPUT} <= set(header(head))


def read(path: Path) -> Rows:
    """Read TIMESTAMP (to 100 ns, with or without a timezone), ContextTokens, GeneratedTokens."""
    import pandas as pd

    first, last = (pd.Timestamp(year, 1, 1, tz="UTC") for year in _YEARS)
    frame = read_columns(path, [_INPUT, _OUTPUT], [_TIME])
    times = pd.to_datetime(frame[_TIME], format="ISO8601", utc=True, errors="coerce")
    if times.isna().any():
        refuse_malformed(path, {_TIME: pd.Timestamp})
        refuse_malformed(path, {_TIME: _iso})
    outside = (times < first) | (times >= last)
    if outside.any():
        row = int(outside.to_numpy().argmax())
        what = f'{_TIME} is "{frame[_TIME].iloc[row]}"; years {_YEARS[0]} to {_YEARS[1] - 1} can be read'
        raise InputError([Problem(place_of(path, row), what)])
    ticks = times.dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    begin = ticks[:1].sum()
    return Rows(
        place=lambda index: place_of(path, index),
        arrival_s=(ticks - begin) / 1e9,
        input_tokens=frame[_INPUT].to_numpy(),
        output_tokens=frame[_OUTPUT].to_numpy(),
        notes=(f"first row at {times.iloc[0].isoformat()}",) if len(times) else (),
    )


def _iso(text: str) -> None:
    """Raise ValueError unless `text` is a date and time."""
    import pandas as pd

    if pd.isna(pd.to_datetime(text, format="ISO8601", utc=True)):
        raise ValueError(text)
