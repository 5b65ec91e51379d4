"""How much inference replaces how much training: the rate of the model, and published rates to hold it against."""

from __future__ import annotations

from dataclasses import dataclass

from clustersim.quality.parameters import Parameters
from clustersim.quality.ranged import Evidence


def inference_decades(parameters: Parameters) -> float:
    """Return the tenfolds of serial thinking that equal one tenfold of training at equal accuracy: kC / kT.

    1.17 by default, which is 15x for 10x; kC was chosen so that it agrees with Jones 2021. The fitted slopes alone
    allow 4.7x to 36x. Holds in mode `log_compute`, below saturation.
    """
    return parameters.logit_per_decade_compute / parameters.logit_per_decade_tokens


def inference_factor(train_factor: float, parameters: Parameters) -> float:
    """Return the factor of serial thinking that equals a factor of training compute, and its inverse for under 1."""
    if train_factor <= 0:
        raise ValueError(f"train_factor must be above 0, not {train_factor:g}")
    return float(train_factor ** inference_decades(parameters))


@dataclass(frozen=True)
class Exchange:
    """A published rate: so many tenfolds of inference (from low to high) for so many of training."""

    what: str
    train_decades: float
    inference_low: float
    inference_high: float
    evidence: Evidence
    source: str


_EPOCH = "Villalobos and Atkinson 2023, epochai.org/blog/trading-off-compute-in-training-and-inference"
#: The rate that the model's agrees with by construction.
HEX = Exchange(
    "AlphaZero on Hex",
    1.0,
    1.2,
    1.2,
    "assumed",
    "Jones 2021, arXiv:2104.03113; andyljones/boardlaw@522b7fc analysis/paper.py; digits not confirmed",
)
EXCHANGES = (
    HEX,
    Exchange("in general", 1.0, 1.0, 2.0, "published", _EPOCH),
    Exchange("sequential tasks", 2.0, 2.0, 3.0, "published", _EPOCH),
    Exchange("answers cheap to verify", 3.5, 5.0, 6.0, "published", f"{_EPOCH}: 5 to 6 for 3 to 4"),
    Exchange("scaling a policy", 1.2, 0.7, 0.7, "published", f"{_EPOCH}, as quoted by stafforini.com"),
    Exchange("Monte-Carlo tree search", 1.0, 1.6, 1.6, "published", f"{_EPOCH}, as quoted by stafforini.com"),
    Exchange("pruning", 0.7, 1.0, 1.0, "published", f"{_EPOCH}, as quoted by stafforini.com"),
    Exchange("resampling", 1.0, 1.5, 1.5, "published", f"{_EPOCH}, as quoted by stafforini.com"),
)  # fmt: skip
