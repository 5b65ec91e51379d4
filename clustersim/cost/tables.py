"""Measured operators: rows of a table correct the fitted law near where they were measured.

What is interpolated is efficiency, the law's seconds over the measured seconds, in logarithms, never the time
itself; so an answer far from every row is the law's own. An operator's place is the logarithm of its work (FLOP,
bytes, depth, tasks), which tells shapes of one family apart and means the same for all families. The correction
is simple kriging about the law (Matheron 1963; a Gaussian process): smooth, since its correlation is Wendland's
compactly supported C2 function (Adv. Comput. Math. 4, 1995; l = 4), which vanishes at a distance of `_REACH`; a row
is not met exactly, as `_NOISE` of the variance is taken for scatter. Factors stay within those of the rows. They
are ratios to the law on the measured device as shipped, so no change of its peaks changes them.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clustersim.cost.profile import Profile
from clustersim.hardware.accelerator import load_accelerator

Floats = NDArray[np.float64]
WORK = ("flops", "bytes", "depth", "tasks")
#: Distance in log work at which rows stop to count, and scatter of a row as a share of the variance. One choice for
#: all families and devices, by errors on rows that are in no table (`calibrate.silicon_tables`' trial rows).
_REACH, _NOISE = 8.0, 0.03
#: Weight of each coordinate in a distance: chosen so, too; tasks jump where a tile is full, which times must not.
_WEIGHT = np.array([0.5, 1.0, 1.0, 0.25])
_AT_ONCE = 256  # lookups, so that correlations with all rows stay in the cache
#: Correlations are computed in this type: it halves their time, and no factor changes by more than 1e-4.
_KERNEL = np.float32
Kernel = NDArray[np.float32]


class Correction(NamedTuple):
    """Factors on the law's seconds, and how measured they are: 1 at a row, 0 far from every row."""

    factor: Floats
    measured: Floats


class OpTable:
    """Measured seconds of one family and data type on one device; `work` has shape (rows, 4)."""

    def __init__(self, work: Floats, seconds: Floats, law_s: Floats) -> None:
        self._place = _place(work)
        self.num_rows = len(seconds)
        log_factor = np.log(seconds / law_s)
        scatter = _NOISE * np.eye(len(seconds))
        self._weights = np.linalg.solve(
            _correlation(self._place, self._place).astype(float) + scatter, log_factor
        )
        self._least, self._most = min(0.0, float(log_factor.min())), max(0.0, float(log_factor.max()))
        self._recall = lru_cache(maxsize=16)(self._look_up)

    def correct(self, flops: ArrayLike, bytes_: ArrayLike, depth: ArrayLike, tasks: ArrayLike) -> Correction:
        """Return the correction of operators, elementwise."""
        each = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (flops, bytes_, depth, tasks)))
        factor, measured = self._recall(np.stack([x.ravel() for x in each], axis=1).tobytes())
        return Correction(factor.reshape(each[0].shape), measured.reshape(each[0].shape))

    def _look_up(self, work: bytes) -> Correction:
        """Return the correction at each row of work (float64, 4 a row); rows alike are looked up once."""
        place, which = _distinct(_place(np.frombuffer(work).reshape(-1, len(WORK))))
        log_factor, nearest = np.empty(len(place)), np.empty(len(place))
        for first in range(0, len(place), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            correlation = _correlation(place[part], self._place)
            log_factor[part] = correlation @ self._weights.astype(_KERNEL)
            nearest[part] = correlation.max(axis=1)
        factor = np.exp(np.clip(log_factor, self._least, self._most))
        return Correction(factor[which], nearest[which])


@cache
def _loaded() -> dict[tuple[object, ...], OpTable]:
    """Return this process's tables by file, its time, and the law that they correct."""
    return {}


def load_table(profile: Profile, family: str, dtype: str, kernel: str = "") -> OpTable | None:
    """Return the measured rows of a family and data type of a profile, None where it has none.

    With `kernel`, the rows of that kernel alone: elementwise operators of equal bytes take different times.
    """
    path = profile.table_file(family, dtype)
    if path is None:
        return None
    fit = profile.fit(family, dtype)
    device = profile.applied_to(load_accelerator(profile.device))
    constants = (fit.compute_frac, fit.memory_frac, fit.overhead_s, fit.smoothness, fit.span_s, fit.task_s)
    peaks = device.peak_flops_per_s(fit.peak).value, device.memory_bandwidth_bytes_per_s.value
    key = (path, path.stat().st_mtime_ns, kernel, constants, peaks)
    loaded = _loaded()
    if key not in loaded:
        work, seconds = _read(path, kernel)
        if not len(seconds):
            return None
        law_s = fit.seconds(*work.T, peak_flops_per_s=peaks[0], bandwidth_bytes_per_s=peaks[1])
        loaded[key] = OpTable(work, seconds, law_s)
    return loaded[key]


def _read(path: Path, kernel: str) -> tuple[Floats, Floats]:
    """Return (work (rows, 4), seconds (rows,)) of a table's file, of the rows whose `op` is `kernel` where given."""
    import pandas as pd

    rows = pd.read_parquet(path, columns=[*WORK, "seconds", *(["op"] if kernel else [])])
    if kernel:
        rows = rows[rows["op"] == kernel]
    return rows[list(WORK)].to_numpy(dtype=float), rows["seconds"].to_numpy(dtype=float)


def _place(work: Floats) -> Floats:
    return np.asarray(_WEIGHT * np.log(np.maximum(work, 1e-3)))


def _correlation(some: Floats, others: Floats) -> Kernel:
    """Return Wendland's function of the distance of each place to each other, (some, others)."""
    middle = others.mean(axis=0)
    near, far = (some - middle) / _REACH, (others - middle) / _REACH
    squares = (near @ (-2.0 * far.T)).astype(_KERNEL)
    squares += (near**2).sum(axis=1)[:, None].astype(_KERNEL)
    squares += (far**2).sum(axis=1).astype(_KERNEL)
    distance = np.sqrt(np.clip(squares, 0.0, 1.0, out=squares), out=squares)
    away = 1.0 - distance
    fourth = away * away
    fourth *= fourth
    fourth *= away
    distance *= 5.0
    distance += 1.0
    distance *= fourth
    return np.asarray(distance)


def _distinct(place: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Return the distinct rows, and which of them each row is."""
    order = np.lexsort(place.T)
    ranked = place[order]
    new = np.concatenate([[True], (ranked[1:] != ranked[:-1]).any(axis=1)]) if len(place) else order > 0
    which = np.empty(len(place), dtype=np.intp)
    which[order] = np.cumsum(new) - 1
    return ranked[new], which
