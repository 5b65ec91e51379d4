"""How far off predictions are: absolute percentage errors beside those of the roofline with one constant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from clustersim.study.validation.predictions import Prediction
from clustersim.study.validation.rows import Row

Floats = NDArray[np.float64]
#: Constants tried for the roofline: in steps of 1 %.
_CONSTANTS = np.geomspace(0.5, 20.0, 371)


@dataclass(frozen=True)
class Errors:
    """Errors over some rows; percentages of what was measured."""

    n: int
    median_ape_pct: float
    p90_ape_pct: float
    median_signed_pct: float
    """Below zero: predicted too low."""
    baseline_median_ape_pct: float
    baseline_p90_ape_pct: float


@dataclass(frozen=True)
class Scored:
    """A prediction and its relative errors (0.1: ten per cent too high)."""

    prediction: Prediction
    error_frac: float
    baseline_error_frac: float

    @property
    def row(self) -> Row:
        """The row predicted."""
        return self.prediction.row


#: By what errors are grouped: a name, and what it reads of a row.
GROUPS: Mapping[str, Callable[[Row], str]] = MappingProxyType(
    {
        "source": lambda row: row.source,
        "engine": lambda row: row.engine,
        "gpu": lambda row: row.gpu,
        "model": lambda row: row.model,
    }
)


def score(predictions: Sequence[Prediction]) -> tuple[list[Scored], float]:
    """Return every prediction with its errors, and the constant of the roofline.

    The constant multiplies the roofline's times and divides its rates. It is the one that gives these very rows the
    least median absolute error, so that the baseline is judged kindly.
    """
    if not predictions:
        return [], 1.0
    measured = np.array([each.row.value for each in predictions])
    predicted = np.array([each.predicted for each in predictions])
    bare = np.array([each.roofline for each in predictions])
    rate = np.array([each.metric.quantity == "throughput" for each in predictions])
    medians = [
        float(np.median(np.abs(_scaled(bare, rate, constant) / measured - 1))) for constant in _CONSTANTS
    ]
    constant = float(_CONSTANTS[int(np.argmin(medians))])
    errors = predicted / measured - 1
    baseline = _scaled(bare, rate, constant) / measured - 1
    scored = [
        Scored(each, float(error), float(base))
        for each, error, base in zip(predictions, errors, baseline, strict=True)
    ]
    return scored, constant


def _scaled(bare: Floats, rate: NDArray[np.bool_], constant: float) -> Floats:
    return np.where(rate, bare / constant, bare * constant)


def errors_of(scored: Iterable[Scored]) -> Errors:
    """Return the errors over rows, of which there must be one at least; percentiles are linear between ranks."""
    rows = list(scored)
    error = 100 * np.array([each.error_frac for each in rows])
    base = 100 * np.abs([each.baseline_error_frac for each in rows])
    return Errors(
        len(rows),
        float(np.median(np.abs(error))),
        float(np.quantile(np.abs(error), 0.9)),
        float(np.median(error)),
        float(np.median(base)),
        float(np.quantile(base, 0.9)),
    )


def by(scored: Iterable[Scored], key: Callable[[Scored], str]) -> dict[str, list[Scored]]:
    """Return rows by a key, in the order of its names."""
    found: dict[str, list[Scored]] = {}
    for each in scored:
        found.setdefault(key(each), []).append(each)
    return dict(sorted(found.items()))


def beyond_the_roofline(prediction: Prediction) -> bool:
    """Say whether a TTFT or rate was measured that beats the bare roofline: the load or layout is not as recorded."""
    measured, bare = prediction.row.value, prediction.roofline
    if prediction.metric.quantity == "throughput":
        return measured > bare
    return prediction.metric.quantity == "TTFT" and measured < bare
