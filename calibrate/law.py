"""The one fitter of the cost model's law (see `clustersim.cost.profile`): its constants from timed operators.

Both those who fit third-party tables (`calibrate.silicon`) and those who fit this machine's rows
(`calibrate.fit`) call `fit_law`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from clustersim.cost.profile import Array, Error, smooth_max
from clustersim.units import write

Mask = NDArray[np.bool_]

#: Where descents start: compute_frac, memory_frac, overhead_s, smoothness, span_s, task_s.
STARTS = (
    (0.5, 0.8, 5e-6, 2.0, 1e-10, 1e-9),
    (0.8, 0.8, 1e-5, 1.2, 1e-9, 1e-8),
    (0.2, 0.5, 1e-5, 5.0, 1e-12, 1e-11),
    (0.05, 0.9, 2e-6, 3.0, 1e-11, 1e-7),
)
LOW = np.array([0.005, 0.05, 1e-8, 1.0, 1e-14, 1e-13])
HIGH = np.array([1.0, 1.0, 1e-3, 30.0, 1e-6, 1e-5])
#: Constants in the order of `LOW`, by their names in `Fit`.
CONSTANTS = ("compute_frac", "memory_frac", "overhead_s", "smoothness", "span_s", "task_s")


class Terms(NamedTuple):
    """Operators as the law sees them, arrays of one length."""

    compute_s: Array
    """flops at the device's peak."""
    memory_s: Array
    """bytes at its bandwidth."""
    depth: Array
    tasks: Array

    @property
    def raw_s(self) -> Array:
        """Return the roofline, which no machine beats."""
        return np.maximum(self.compute_s, self.memory_s)

    def at(self, which: Any) -> Terms:
        """Return the rows of an index or mask."""
        return Terms(*(term[which] for term in self))


def law(x: Array, terms: Terms) -> Array:
    """Return the law's seconds for constants in the order of `CONSTANTS`."""
    parts = [terms.compute_s / x[0], terms.memory_s / x[1], terms.depth * x[4], terms.tasks * x[5]]
    return np.asarray(smooth_max(parts, float(x[3])) + x[2])


def fit_law(
    terms: Terms, measured_s: Array, pull: Array, *, starts: Sequence[Sequence[float] | Array] = STARTS,
    low: Array = LOW, high: Array = HIGH, most_steps: int | None = None,
) -> Array:  # fmt: skip
    """Return the constants of least robust error in log seconds; terms that fall to their floor become 0.

    `pull` is the square root of each row's weight. A constant whose `low` and `high` are equal is held there.
    """
    free = low < high
    base = np.where(free, 0.0, low)

    def whole(part: Array) -> Array:
        x = base.copy()
        x[free] = part
        return x

    def residuals(log_x: Array) -> Array:
        return np.asarray(pull * np.log(law(whole(np.exp(log_x)), terms) / measured_s))

    inside = [np.clip(np.asarray(start, dtype=float)[free], low[free], high[free]) for start in starts]
    x = whole(descend(residuals, inside, low[free], high[free], most_steps))
    x[4:] = np.where(x[4:] < 2 * LOW[4:], 0.0, x[4:])
    return np.clip(x, [0, 0, 0, 1, 0, 0], np.maximum(high, low))


def descend(
    residuals: Callable[[Array], Array], starts: Sequence[Sequence[float] | Array], low: Array, high: Array,
    most_steps: int | None = None,
) -> Array:  # fmt: skip
    """Return the constants of the least robust error over all starts, searched in logarithms, to 4 digits."""
    bounds = (np.log(low), np.log(high))
    found = [
        least_squares(
            residuals, np.log(start), bounds=bounds, loss="soft_l1", f_scale=0.05, max_nfev=most_steps
        )
        for start in starts
    ]
    best = min(found, key=lambda result: float(result.cost))
    return np.array([float(f"{value:.4g}") for value in np.exp(best.x)])


def best_constant(raw: Array, measured: Array) -> float:
    """Return the constant (1 to 100) times the raw roofline that has the least median error: the baseline."""
    constants = np.geomspace(1.0, 100.0, 400)
    medians = [np.median(np.abs(constant * raw / measured - 1)) for constant in constants]
    return float(constants[int(np.argmin(medians))])


def judge(predicted: Array, raw: Array, measured: Array, held_out: Mask, constant: float) -> Error | None:
    """Return the errors on the rows of `held_out`; None for fewer than five."""
    if held_out.sum() < 5:
        return None
    ape, base = (np.abs(x[held_out] / measured[held_out] - 1) for x in (predicted, constant * raw))
    figures = [float(f"{np.quantile(x, q):.4g}") for x in (ape, base) for q in (0.5, 0.9)]
    return Error(num_test=int(held_out.sum()), median_ape_frac=figures[0], p90_ape_frac=figures[1],
                 baseline_median_ape_frac=figures[2], baseline_p90_ape_frac=figures[3])  # fmt: skip


def written(value: float, unit: str) -> Any:
    """Return a quantity as it is written, which is the only way that a profile's fields take it."""
    return write(float(value), unit)
