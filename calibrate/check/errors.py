"""Predictions beside measurements: absolute percentage errors, their baseline, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from calibrate.check.steps import Measured
from calibrate.law import best_constant
from clustersim.cost.profile import Profile
from clustersim.errors import InputError
from clustersim.models.step import StepShape

#: Latencies and quantiles that a load is judged by.
LATENCIES, QUANTILES = ("ttft", "tpot", "e2el"), (0.5, 0.9)


class Predictor(Protocol):
    """What says how long steps take; `Deployment` is one."""

    def step_s(self, shape: StepShape) -> float:
        """Return a step's seconds."""

    def roofline_s(self, shape: StepShape) -> float:
        """Return the seconds of the raw roofline."""

    def operators_s(self, shape: StepShape) -> Mapping[str, float]:
        """Return a step's seconds by operator."""


@dataclass(frozen=True)
class StepError:
    """A step: measured, predicted, and by the baseline, in seconds."""

    name: str
    kind: str
    measured_s: float
    spread_frac: float
    predicted_s: float
    baseline_s: float

    @property
    def error_frac(self) -> float:
        """Return predicted over measured, less one: below zero where the prediction is short."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True)
class Errors:
    """Absolute errors as shares of the measured time, of the prediction and of one constant times the roofline."""

    kind: str
    num_steps: int
    median_frac: float
    p90_frac: float
    mean_signed_frac: float
    baseline_median_frac: float
    baseline_p90_frac: float


@dataclass(frozen=True)
class OperatorError:
    """One operator over the steps of a kind: its share of the measured time, and predicted over measured less one."""

    name: str
    share_frac: float
    error_frac: float


@dataclass(frozen=True)
class LatencyError:
    """A quantile of a latency under load, in seconds."""

    name: str
    measured_s: float
    predicted_s: float

    @property
    def error_frac(self) -> float:
        """Return predicted over measured, less one."""
        return self.predicted_s / self.measured_s - 1


def step_errors(measured: Sequence[Measured], predictor: Predictor) -> list[StepError]:
    """Return every step beside its prediction.

    The baseline is one constant times the raw roofline. The constant is the best there is for these very steps, chosen
    in hindsight, which favours the baseline.
    """
    raw = np.array([predictor.roofline_s(each.step.shape) for each in measured])
    constant = best_constant(raw, np.array([each.median_s for each in measured]))
    return [
        StepError(
            str(each.step), each.step.kind, each.median_s, each.spread_frac,
            predictor.step_s(each.step.shape), float(constant * roofline),
        )
        for each, roofline in zip(measured, raw, strict=True)
    ]  # fmt: skip


def summarise(steps: Sequence[StepError], kind: str = "all") -> Errors:
    """Return the errors of all steps, or those of one kind."""
    kept = [step for step in steps if kind in ("all", step.kind)]
    signed = np.array([step.error_frac for step in kept])
    base = np.array([abs(step.baseline_s / step.measured_s - 1) for step in kept])
    figures = [*np.quantile(np.abs(signed), QUANTILES), signed.mean(), *np.quantile(base, QUANTILES)]
    return Errors(kind, len(kept), *(float(f"{each:.4g}") for each in figures))


def operator_errors(measured: Sequence[Measured], predictor: Predictor, kind: str) -> list[OperatorError]:
    """Return the operators of all steps of a kind, that with most of the time first."""
    kept = [each for each in measured if each.step.kind == kind and each.operators]
    spent: dict[str, float] = {}
    said: dict[str, float] = {}
    for each in kept:
        for total, seconds in (
            (spent, each.operators),
            (said, predictor.operators_s(each.step.shape)),
        ):
            for name, value in seconds.items():
                total[name] = total.get(name, 0.0) + value
    whole = sum(spent.values())
    rows = [
        OperatorError(name, seconds / whole, said.get(name, 0.0) / seconds - 1)
        for name, seconds in spent.items()
        if seconds > 0
    ]
    return sorted(rows, key=lambda row: -row.share_frac)


def latency_errors(
    measured_s: Mapping[str, np.ndarray], predicted_s: Mapping[str, np.ndarray]
) -> list[LatencyError]:
    """Return the quantiles of each latency, measured and predicted on the same requests."""
    return [
        LatencyError(
            f"p{round(100 * q)} {name}", *(float(np.quantile(s[name], q)) for s in (measured_s, predicted_s))
        )
        for name in LATENCIES
        for q in QUANTILES
    ]


def validated(profile: Profile, errors: Errors) -> Profile:
    """Return the profile with the errors on whole steps in it; `validation` keeps what it says of single operators."""
    if profile.validation is None:
        raise InputError(f"profile {profile.name} of {profile.device} has no fits to hold against anything")
    new = {
        "e2e_ape_frac": errors.median_frac, "e2e_p90_ape_frac": errors.p90_frac, "num_steps": errors.num_steps
    }  # fmt: skip
    return profile.model_copy(
        update={"validation": profile.validation.model_copy(update=new), "unvalidated": False}
    )


def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return dataclasses as plain data."""
    return [asdict(row) for row in rows]
