"""How much of a training job's time is kept: failures, checkpoints and restarts.

    M = mtbf of one accelerator / accelerators        C = state bytes / storage bandwidth        R = restart
    interval = sqrt(2 C M) (1 + sqrt(C / 2M) / 3 + (C / 2M) / 9) - C, or M where C >= 2M
    goodput  = interval / (M e^(R/M) (e^((interval + C)/M) - 1))

Failures are Poisson, the job stops while it writes, and every failure costs the work since the last checkpoint and a
restart: Daly, Future Generation Computer Systems 22 (2006), equations 20 and 37; to first order Young's (CACM 1974)
interval sqrt(2 C M) and a loss of C / interval + (interval / 2 + R) / M.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, expm1, log, sqrt
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from clustersim.errors import InputError, unknown
from clustersim.hardware.figure import Evidence, Figure
from clustersim.kinds import Value
from clustersim.units import HOUR_S, BytesPerSecond, PositiveSeconds, Seconds

#: Bytes a weight of a checkpoint: bf16 weight, fp32 copy, two fp32 moments.
CHECKPOINT_BYTES = 14.0


def _mtbf(hours: float, source: str, evidence: Evidence = "published") -> Figure[Seconds]:
    return Figure(value=hours * HOUR_S, evidence=evidence, source=source, date="2026-11-22")


#: Whose machines -> mean time between interruptions of one accelerator, any cause.
MTBF: Mapping[str, Figure[Seconds]] = MappingProxyType(
    {
        "llama-3": _mtbf(
            50_676,
            "16,384 H100 for 54 days had 419 unexpected interruptions: Llama 3 (arXiv:2407.21783), table 5",
        ),
        "meta-rsc-1": _mtbf(
            1000 * 24 * 8 / 6.50,
            "6.50 failures in 1000 node-days of 8 A100: Kokolis et al. (arXiv:2410.21680), digits unconfirmed",
            "assumed",
        ),
        "meta-rsc-2": _mtbf(
            1000 * 24 * 8 / 2.34,
            "2.34 failures in 1000 node-days of 8 A100: Kokolis et al. (arXiv:2410.21680), digits unconfirmed",
            "assumed",
        ),
        "crusoe-h200": _mtbf(
            1600 * 122 * 24 / 205,
            "205 failures in four months, if of 1,600 H200: glennklockwood.com/garden/component-reliability",
            "assumed",
        ),
    }
)


class Reliability(Value):
    """How often a job is interrupted, and what that costs."""

    mtbf_accelerator_s: PositiveSeconds = MTBF["llama-3"].value
    """Mean time between interruptions of a job on one accelerator; that of n is an nth."""
    restart_s: Seconds = 600.0
    """From a failure to useful work: detection, replacement, loading. 5 to 15 min, assumed."""
    storage_bytes_per_s: BytesPerSecond = 2e12 / 16384
    """Share of checkpoint storage of one accelerator: Llama 3's 2 TB/s for 16,384 (arXiv:2407.21783, 3.3.1)."""
    checkpoint_bytes: Annotated[float, Field(gt=0)] = CHECKPOINT_BYTES
    """Of one weight."""

    @classmethod
    def of(cls, whose: str) -> Reliability:
        """Return the reliability of published machines, e.g. "meta-rsc-1"; raises InputError with the names."""
        if whose not in MTBF:
            raise InputError(unknown("record of failures", whose, MTBF))
        return cls().model_copy(update={"mtbf_accelerator_s": MTBF[whose].value})


@dataclass(frozen=True)
class Goodput:
    """The share of wall time that becomes training, and what it rests on."""

    frac: float
    mtbf_s: float
    """Of the whole job."""
    checkpoint_s: float
    """For which the job stops to write."""
    interval_s: float
    """Of training between two checkpoints, the best one."""


def goodput(num_params: float, num_accelerators: int, reliability: Reliability | None = None) -> Goodput:
    """Return the goodput of a job at the best checkpoint interval.

    Raises InputError where failures come so fast that nothing is ever finished.
    """
    reliability = reliability or Reliability()
    mtbf_s = reliability.mtbf_accelerator_s / num_accelerators
    checkpoint_s = (
        num_params * reliability.checkpoint_bytes / (reliability.storage_bytes_per_s * num_accelerators)
    )
    interval_s = daly_interval_s(checkpoint_s, mtbf_s)
    frac = kept_frac(interval_s, checkpoint_s, mtbf_s, reliability.restart_s)
    if frac < 1e-3:
        raise InputError(
            f"a job on {num_accelerators} accelerators fails every {mtbf_s:.0f} s, writes a checkpoint in "
            f"{checkpoint_s:.0f} s and restarts in {reliability.restart_s:.0f} s: it never ends; use fewer "
            "accelerators, faster storage or a shorter restart"
        )
    return Goodput(frac, mtbf_s, checkpoint_s, interval_s)


def daly_interval_s(checkpoint_s: float, mtbf_s: float) -> float:
    """Return the best time of training between two checkpoints, seconds."""
    if checkpoint_s >= 2 * mtbf_s:
        return mtbf_s
    share = checkpoint_s / (2 * mtbf_s)
    return sqrt(2 * checkpoint_s * mtbf_s) * (1 + sqrt(share) / 3 + share / 9) - checkpoint_s


def kept_frac(interval_s: float, checkpoint_s: float, mtbf_s: float, restart_s: float) -> float:
    """Return the share of wall time that is kept, between 0 and 1."""
    grown = (interval_s + checkpoint_s) / mtbf_s
    if log(max(interval_s, 1e-300) / mtbf_s) - restart_s / mtbf_s - grown < log(1e-12):
        return 0.0
    return interval_s / (mtbf_s * exp(restart_s / mtbf_s) * expm1(grown))
