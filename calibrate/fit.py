"""From samples to a profile's constants: rows, the device's own figures, the law of each family, its errors.

A row is a case with the summary of all its runs. A family and data type is fitted on the rows' medians; its
errors are cross-validated, each row predicted by a fit that saw no row of its shape. The simpler of two laws
(roofline with a rounded corner, or that with the span and issue terms) stands unless the other predicts better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibrate import pace
from calibrate.case import Case, Samples
from calibrate.law import CONSTANTS, HIGH, LOW, STARTS, Terms, best_constant, fit_law, judge, law, written
from calibrate.plan import Planned
from calibrate.statistics import Summary, resample, summarise
from clustersim.cost.measured import Validation
from clustersim.cost.profile import BY_KV_DTYPE, PEAKS, SYNONYMS, Array, Fit, Precision

#: Rows below which nothing is fitted, and below which only the rounded roofline is.
LEAST_ROWS, LEAST_ROWS_FULL = 5, 12
#: Shapes are left out one at a time up to so many, in so many groups above.
MOST_FOLDS = 10
_DRAWS = 40
#: Steps of a descent that starts at the solution for nearly the same rows.
_STEPS = 20
#: The rounded roofline: a corner as the fitted NVIDIA profiles have it (median 2.4), no span and issue terms.
_SIMPLE_LOW, _SIMPLE_HIGH = (
    np.array([LOW[0], LOW[1], LOW[2], 2.0, 0.0, 0.0]),
    np.array([1.0, 1.0, HIGH[2], 2.0, 0.0, 0.0]),
)


@dataclass(frozen=True)
class Row:
    """A case, what it does, and its samples of every run."""

    planned: Planned
    runs: tuple[Samples, ...]
    summary: Summary

    @property
    def case(self) -> Case:
        """Return the case."""
        return self.planned.case

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the flags of any run, sorted; "unsteady" and "mixed_regime" among them."""
        flags = {flag for run in self.runs for flag in run.flags}
        flags |= {"unsteady"} if not all(run.steady for run in self.runs) else set()
        flags |= {"mixed_regime"} if self.summary.mixed else set()
        return tuple(sorted(flags))

    @property
    def burst_s(self) -> float:
        """Return the median of the five fastest samples: the device at its fastest (MAMF, stas00/ml-engineering)."""
        fastest = sorted(second for run in self.runs for second in run.seconds)[:5]
        return float(np.median(fastest))


def gather(planned: Sequence[Planned], samples: Sequence[Samples]) -> list[Row]:
    """Return a row for every planned case that was measured, in the plan's order.

    Runs on a slowed core (see calibrate.pace) are flagged so, and set aside where the case has others.
    """
    reference = pace.reference_s(s for each in samples if (s := pace.reading_s(each.notes)) is not None)
    runs: dict[str, list[Samples]] = {}
    for each in samples:
        slowed = pace.is_slowed(pace.reading_s(each.notes), reference)
        judged = replace(each, flags=(*each.flags, "slowed")) if slowed else each
        runs.setdefault(each.case.key, []).append(judged)
    for key, every in runs.items():
        runs[key] = [run for run in every if "slowed" not in run.flags] or every
    return [
        Row(each, tuple(found), summarise([run.seconds for run in found]))
        for each in planned
        if (found := runs.get(each.case.key))
    ]


def precision_of(family: str, dtype: str) -> Precision | None:
    """Return the peak that a family's products run at; None for data types that the cost model does not know."""
    name = SYNONYMS.get(dtype, dtype)
    return None if name not in PEAKS else "bf16" if family in BY_KV_DTYPE else PEAKS[name]


@dataclass(frozen=True)
class Reference:
    """The peaks that the fits' fractions are shares of."""

    flops_per_s: Mapping[Precision, float]
    bytes_per_s: float

    def terms(self, rows: Sequence[Row], precision: Precision) -> Terms:
        """Return the rows as the law sees them."""
        work = [row.planned.work for row in rows]
        flops, bytes_, depth, tasks = (
            np.array([getattr(each, name) for each in work], dtype=float)
            for name in ("flops", "bytes", "depth", "tasks")
        )
        return Terms(flops / self.flops_per_s[precision], bytes_ / self.bytes_per_s, depth, tasks)


@dataclass(frozen=True)
class Fitted:
    """A fit, and for each of its rows the seconds predicted by a fit that did not see its shape."""

    fit: Fit
    rows: tuple[Row, ...]
    predicted_s: Array
    measured_s: Array


def fit_rows(
    family: str, dtype: str, rows: Sequence[Row], reference: Reference, source: str, *, draws: int = _DRAWS
) -> Fitted | str:
    """Fit one family and data type on all of its rows: each benchmark has the operands that a step has, cold or warm.

    Returns why not, in words, where it cannot: an unknown data type, no peak, too few rows.
    """
    precision = precision_of(family, dtype)
    if precision is None:
        return f"the cost model knows no data type {dtype}"
    if precision not in reference.flops_per_s:
        return f"no {precision} peak is known"
    terms = reference.terms(rows, precision)
    measured = np.array([row.summary.median_s for row in rows])
    true = measured >= terms.raw_s * (1 - 1e-9)
    kept = tuple(row for row, is_true in zip(rows, true, strict=True) if is_true)
    if len(kept) < LEAST_ROWS:
        return f"{len(kept)} rows, and a fit needs {LEAST_ROWS}"
    terms, measured = terms.at(true), measured[true]
    folds = _folds([row.case for row in kept])
    laws = [(_SIMPLE_LOW, _SIMPLE_HIGH)] + ([(LOW, HIGH)] if len(kept) >= LEAST_ROWS_FULL else [])
    tried = [_cross_validated(terms, measured, folds, *bounds) for bounds in laws]
    best = int(np.argmin([np.median(np.abs(predicted / measured - 1)) for _, predicted in tried]))
    x, predicted = tried[best]
    constant = best_constant(terms.raw_s, measured)
    error = judge(predicted, terms.raw_s, measured, np.ones(len(kept), dtype=bool), constant)
    fit = Fit(
        compute_frac=x[0], memory_frac=x[1], overhead_s=written(x[2], "s"), smoothness=max(1.0, x[3]),
        span_s=written(x[4], "s"), task_s=written(x[5], "s"), peak=precision, evidence="measured", source=source,
        num_rows=len(kept), num_refused=int((~true).sum()), error=error,
        intervals=_intervals(kept, terms, x, laws[best], draws),
    )  # fmt: skip
    return Fitted(fit, kept, predicted, measured)


def _folds(cases: Sequence[Case]) -> Array:
    """Return a group number a case: the same for the same shape, at most `MOST_FOLDS` groups, drawn by shape."""
    shapes = sorted({tuple(sorted(case.shape.items())) for case in cases})
    order = np.random.default_rng(0).permutation(len(shapes))
    groups = len(shapes) if len(shapes) <= LEAST_ROWS_FULL else MOST_FOLDS
    group = {shape: int(order[i]) % groups for i, shape in enumerate(shapes)}
    return np.array([group[tuple(sorted(case.shape.items()))] for case in cases], dtype=float)


def _cross_validated(
    terms: Terms, measured: Array, folds: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """Return the constants on all rows, and predictions of each row by a fit that left its fold out."""
    pull = np.ones(len(measured))
    x = fit_law(terms, measured, pull, starts=STARTS, low=low, high=high)
    predicted = np.empty(len(measured))
    for fold in np.unique(folds):
        out = folds == fold
        if out.all():
            predicted[out] = law(x, terms.at(out))
            continue
        near = fit_law(
            terms.at(~out),
            measured[~out],
            pull[~out],
            starts=[_start(x)],
            low=low,
            high=high,
            most_steps=_STEPS,
        )
        predicted[out] = law(near, terms.at(out))
    return x, predicted


def _start(x: Array) -> Array:
    return np.asarray(np.maximum(x, LOW))


def _intervals(
    rows: Sequence[Row], terms: Terms, x: Array, bounds: tuple[Array, Array], draws: int
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the constants by bootstrap over runs, then samples; none for rows of one run."""
    if draws <= 0 or max(row.summary.num_runs for row in rows) < 2:
        return {}
    draw = np.random.default_rng(1)
    runs = [[np.asarray(run.seconds) for run in row.runs] for row in rows]
    found = []
    for _ in range(draws):
        medians = np.array([np.median([np.median(run) for run in resample(each, draw)]) for each in runs])
        medians = np.maximum(medians, terms.raw_s)
        found.append(
            fit_law(
                terms,
                medians,
                np.ones(len(rows)),
                starts=[_start(x)],
                low=bounds[0],
                high=bounds[1],
                most_steps=_STEPS,
            )
        )
    low, high = np.quantile(np.array(found), [0.025, 0.975], axis=0)
    free = bounds[0] < bounds[1]
    return {
        name: (float(f"{low[i]:.4g}"), float(f"{high[i]:.4g}")) for i, name in enumerate(CONSTANTS) if free[i]
    }


def by_family(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Return rows by family of the cost model and data type, in the plan's order."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row.planned.family is not None:
            found.setdefault(row.planned.family, {}).setdefault(row.case.dtype, []).append(row)
    return found


def validation(fitted: Sequence[Fitted]) -> Validation | None:
    """Return the errors over the rows of all fits, each predicted by a fit that did not see its shape."""
    if not fitted:
        return None
    ape = np.concatenate([np.abs(each.predicted_s / each.measured_s - 1) for each in fitted])
    median, p90 = (float(f"{np.quantile(ape, q):.4g}") for q in (0.5, 0.9))
    return Validation(cv_ape_frac=median, cv_p90_ape_frac=p90, num_rows=len(ape))
