"""Measured operators: rows of a table correct the fitted law near where they were measured.

What is interpolated is efficiency, the law's seconds over the measured seconds, in logarithms, never the time
itself; so an answer far from every row is the law's own. An operator's place is the logarithm of its work (FLOP,
bytes, depth, tasks), which tells shapes of one family apart and means the same for all families. The correction
is the mean over the nearest rows, weighted by inverse square distance (Shepard 1968); it fades out between a
distance of ln 2 and ln 4 from the nearest row, that is where the work differs by two to four times.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_NEAREST = 6
_NEAR, _FAR = float(np.log(2.0)), float(np.log(4.0))


class Correction(NamedTuple):
    """Factors on the law's seconds, and how measured they are: 1 at a row, 0 far from every row."""

    factor: Floats
    measured: Floats


class OpTable:
    """Measured seconds of one family and data type on one device; `work` has shape (rows, 4)."""

    def __init__(self, work: Floats, seconds: Floats, law_s: Floats, rel_error: float | None = None) -> None:
        self._place = _place(work)
        self._log_factor = np.log(seconds / law_s)
        self.num_rows = len(seconds)
        self.rel_error = rel_error
        """Median relative error of the corrected law on shapes that were left out."""

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


def _place(work: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(work, 1e-3)))
