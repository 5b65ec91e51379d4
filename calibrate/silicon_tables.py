"""Measured rows that go with the fits of `calibrate.silicon`: which are held out, which are kept, and what they gain.

Shapes are split by a hash of their sizes: 30 % held out, never fitted on nor stored, on which every error that a
profile states is; of the rest 85 % may be stored, and the others (trial rows) judge whether storing is worth it. Of
the rows that may, at most `MOST_ROWS` are: first the shapes of models, then the others, each as far as possible
from those taken before (Gonzalez 1985), so that they spread over the space of work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate import FAMILIES, Mask, Rows
from calibrate.law import Terms, best_constant, judge
from clustersim.cost.profile import BY_KV_DTYPE, PEAKS, Array, Error, Fit, Precision
from clustersim.cost.tables import WORK, OpTable
from clustersim.hardware.accelerator import Accelerator

MOST_ROWS = 1000
#: Families whose rows are stored. Those of decode attention and mla more than halve the errors of their operators,
#: but made whole servers worse (docs/validation.md), for the host constants of engines were fitted with the law.
STORED = ("gemm", "attention_prefill", "moe")
#: Share of the stored rows that model shapes take, where both kinds abound.
_HEADLINE_SHARE = 0.8
#: Fewer trial rows than this decide nothing.
_LEAST_TRIALS = 20
_MOST_FITTED = 20_000


class Split(NamedTuple):
    """The rows of one family and data type, and what each is for."""

    table: pd.DataFrame
    peak: Precision
    rows: Rows
    measured: Array
    terms: Terms
    true: Mask
    """Rows that do not beat the roofline."""
    train: Mask
    trial: Mask
    """Those of `train` that no table holds."""
    held: Mask

    @property
    def headline_train(self) -> Mask:
        """Return the fitted rows among the shapes of models; all fitted ones where there are none."""
        headline = self.train & self.rows.headline
        return headline if headline.any() else self.train

    @property
    def constant(self) -> float:
        """Return the baseline: the best constant times the roofline."""
        known = self.headline_train
        return best_constant(self.terms.raw_s[known], self.measured[known])


def split(name: str, dtype: str, table: pd.DataFrame, chip: Accelerator) -> Split:
    """Return at most 20,000 rows of a family and data type, drawn and split by their shapes alone."""
    peak: Precision = "bf16" if name in BY_KV_DTYPE else PEAKS[dtype]
    table = table.iloc[np.argsort(_draw(table), kind="stable")[:_MOST_FITTED]]
    rows, measured, draw = FAMILIES[name].work(table, dtype), table.seconds.to_numpy(), _draw(table)
    terms = Terms(
        rows.flops / chip.peak_flops_per_s(peak).value,
        rows.bytes / chip.memory_bandwidth_bytes_per_s.value,
        rows.depth,
        rows.tasks,
    )
    true = measured >= terms.raw_s
    held = true & (np.modf(draw * 1e6)[0] >= 0.7)
    train = true & ~held
    return Split(
        table, peak, rows, measured, terms, true, train, train & (np.modf(draw * 1e9)[0] >= 0.85), held
    )


def _draw(table: pd.DataFrame) -> Array:
    """Return a number in [0, 1) a row, from its shape alone."""
    shape = table.select_dtypes("number").drop(columns=["latency", "seconds"])
    return pd.util.hash_pandas_object(shape, index=False).to_numpy(dtype=np.uint64) / 2.0**64


def spread(place: Array, most: int) -> NDArray[np.intp]:
    """Return the indices of up to `most` places, the middle one first, then always the farthest from those taken."""
    if not most or not len(place):
        return np.empty(0, dtype=np.intp)
    taken = [int(((place - np.median(place, axis=0)) ** 2).sum(axis=1).argmin())]
    away = ((place - place[taken[0]]) ** 2).sum(axis=1)
    while len(taken) < most and away.max() > 0:
        taken.append(int(away.argmax()))
        away = np.minimum(away, ((place - place[taken[-1]]) ** 2).sum(axis=1))
    return np.array(taken, dtype=np.intp)


def thinned(parts: Split, most: int = MOST_ROWS) -> NDArray[np.intp]:
    """Return the indices of the rows to store."""
    place = np.log(_work(parts.rows))
    allowed = parts.train & ~parts.trial & (True if parts.rows.alike is None else parts.rows.alike)
    common, rest = (
        np.flatnonzero(allowed & is_one) for is_one in (parts.rows.headline, ~parts.rows.headline)
    )
    first = common[spread(place[common], max(round(_HEADLINE_SHARE * most), most - len(rest)))]
    return np.concatenate([first, rest[spread(place[rest], most - len(first))]])


def measured_rows(fit: Fit, parts: Split, chip: Accelerator) -> tuple[pd.DataFrame, Error] | None:
    """Return the rows to store and the held-out errors with them.

    None where trial rows say that the law alone is better: in the median, or in the worst tenth.
    """
    work, measured, raw = _work(parts.rows), parts.measured, parts.terms.raw_s
    peaks = chip.peak_flops_per_s(fit.peak).value, chip.memory_bandwidth_bytes_per_s.value
    law_s = fit.seconds(*work.T, peak_flops_per_s=peaks[0], bandwidth_bytes_per_s=peaks[1])
    stored = thinned(parts)
    judged = (parts.trial | parts.held) & parts.rows.headline
    predicted = law_s.copy()
    rows = OpTable(work[stored], measured[stored], law_s[stored])
    factor = rows.correct(*work[judged].T).factor
    predicted[judged] = np.maximum(law_s[judged] * factor, raw[judged])
    trial = judged & parts.trial
    error = judge(predicted, raw, measured, judged & parts.held, parts.constant)
    if trial.sum() < _LEAST_TRIALS or error is None or not _better(predicted, law_s, measured, trial):
        return None
    return _frame(parts, work, stored), error


def _better(predicted: Array, law_s: Array, measured: Array, trial: Mask) -> bool:
    new, old = (np.quantile(np.abs(x[trial] / measured[trial] - 1), [0.5, 0.9]) for x in (predicted, law_s))
    return bool(new[0] < old[0] and new[1] <= old[1])


def _work(rows: Rows) -> Array:
    return np.stack([rows.flops, rows.bytes, rows.depth, rows.tasks], axis=1)


def _frame(parts: Split, work: Array, stored: NDArray[np.intp]) -> pd.DataFrame:
    """Return rows as they are stored: sizes, kernel, work and seconds, ordered by size."""
    table = parts.table.iloc[stored]
    sizes = table.select_dtypes("number").drop(columns=["latency", "seconds"]).astype("int32")
    frame = sizes.reset_index(drop=True)
    by = [str(column) for column in sizes]
    if "kernel_source" in table:
        frame["kernel_source"] = table["kernel_source"].to_numpy()
    for index, name in enumerate(WORK):
        frame[name] = work[stored, index].astype("float32")
    frame["seconds"] = parts.measured[stored].astype("float32")
    return frame.sort_values(by, kind="stable", ignore_index=True)


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write each frame to `folder`/<name>, same bytes for same rows, in the place of all Parquet files there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if tables:
        folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    for name, frame in sorted(tables.items()):
        rows = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        floats = [column for column in frame if frame[column].dtype == "float32"]
        others = [column for column in frame if column not in floats]
        pq.write_table(
            rows, folder / name, compression="zstd", compression_level=19, use_dictionary=others,
            use_byte_stream_split=floats, write_statistics=False, store_schema=False,
        )  # fmt: skip
