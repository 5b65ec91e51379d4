"""Measured operators: rows of a table correct the fitted law near where they were measured.

What is interpolated is efficiency, the law's seconds over the measured seconds, in logarithms, never the time
itself; so an answer far from every row is the law's own. An operator's place is the logarithm of its work (FLOP,
bytes, depth, tasks), which tells shapes of one family apart and means the same for all families. The correction
is the mean over the nearest rows, weighted by inverse square distance (Shepard 1968); it fades out between a
distance of ln 2 and ln 4 from the nearest row, that is where the work differs by two to four times.
"""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clustersim.cost.profile import Profile
from clustersim.hardware.accelerator import load_accelerator

Floats = NDArray[np.float64]
_NEAREST = 6
_WORK = ("flops", "bytes", "depth", "tasks")
_NEAR, _FAR = float(np.log(2.0)), float(np.log(4.0))


class Correction(NamedTuple):
    """Factors on the law's seconds, and how measured they are: 1 at a row, 0 far from every row."""

    factor: Floats
    measured: Floats


class OpTable:
    """Measured seconds of one family and data type on one device; `work` has shape (rows, 4)."""

    def __init__(self, work: Floats, seconds: Floats, law_s: Floats) -> None:
        self._place = _place(work)
        self._log_factor = np.log(seconds / law_s)
        self.num_rows = len(seconds)

    @cached_property
    def _tree(self) -> object:
        from scipy.spatial import cKDTree

        return cKDTree(self._place)

    def correct(self, flops: ArrayLike, bytes_: ArrayLike, depth: ArrayLike, tasks: ArrayLike) -> Correction:
        """Return the correction of operators, elementwise."""
        each = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (flops, bytes_, depth, tasks)))
        place = _place(np.stack([x.ravel() for x in each], axis=1))
        distance, index = self._tree.query(place, k=min(_NEAREST, self.num_rows))  # type: ignore[attr-defined]  # scipy is imported late
        distance, index = distance.reshape(len(place), -1), index.reshape(len(place), -1)
        weight = 1.0 / (distance**2 + 1e-9)
        log_factor = (weight * self._log_factor[index]).sum(axis=1) / weight.sum(axis=1)
        near = np.clip((_FAR - distance[:, 0]) / (_FAR - _NEAR), 0.0, 1.0)
        shape = each[0].shape
        return Correction(np.exp(log_factor * near).reshape(shape), near.reshape(shape))


def load_table(profile: Profile, family: str, dtype: str) -> OpTable | None:
    """Return the measured rows of a family and data type of a profile, None where it has none."""
    path = profile.table_file(family, dtype)
    if path is None:
        return None
    work, seconds = _read(path)
    fit = profile.fit(family, dtype)
    device = profile.applied_to(load_accelerator(profile.device))
    law_s = fit.seconds(
        *work.T,
        peak_flops_per_s=device.peak_flops_per_s(fit.peak).value,
        bandwidth_bytes_per_s=device.memory_bandwidth_bytes_per_s.value,
    )
    return OpTable(work, seconds, law_s)


@cache
def _read(path: Path) -> tuple[Floats, Floats]:
    """Return (work (rows, 4), seconds (rows,)) of a table's file."""
    import pandas as pd

    rows = pd.read_parquet(path, columns=[*_WORK, "seconds"])
    return rows[list(_WORK)].to_numpy(dtype=float), rows["seconds"].to_numpy(dtype=float)


def _place(work: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(work, 1e-3)))
