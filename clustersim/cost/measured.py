"""What a measured profile says beside its fits: the device's own figures, its links, its quality and its errors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from clustersim.hardware.figure import Figure
from clustersim.kinds import Value
from clustersim.units import Bytes, BytesPerSecond, FlopsPerSecond, Seconds


class DeviceFigures(Value):
    """What the device itself was measured to do. Peaks: data type -> figure."""

    kind: Literal["cpu", "gpu"]
    driver_name: str
    """The device's name as its driver says it."""
    fractions_of: Literal["datasheet", "measured"]
    """Whose peaks the fits' fractions are shares of. Where they are the measured ones (devices of no datasheet),
    `Profile.applied_to` puts these figures in the place of the specification's."""
    peak_flops_per_s: dict[str, Figure[FlopsPerSecond]] = Field(default_factory=dict)
    """The most that any operator reached, at its fastest."""
    sustained_flops_per_s: dict[str, Figure[FlopsPerSecond]] = Field(default_factory=dict)
    """The most that any operator reached by its median."""
    memory_bandwidth_bytes_per_s: Figure[BytesPerSecond] | None = None
    memory_bytes: Figure[Bytes] | None = None
    kernel_launch_s: Figure[Seconds] | None = None


class Quality(Value):
    """What speaks for and against a measured profile."""

    contended: bool
    """Whether other programs ran meanwhile: such a profile yields to any other of the device."""
    throttled: bool
    steady: bool
    """Whether at least nine tenths of the rows reached a steady state before they were timed."""
    canary_drift_frac: float
    """The largest change of a canary's median over a block of cases."""
    coverage_frac: float
    """Cases measured of those planned."""
    num_flagged: dict[str, int] = Field(default_factory=dict)
    """Flag -> rows that carry it."""


class Validation(Value):
    """Errors of the whole profile, as shares of the measured time; `e2e_*` on whole steps of a model."""

    cv_ape_frac: float
    """Median over rows, each predicted by a fit that did not see its shape."""
    cv_p90_ape_frac: float
    num_rows: int
    e2e_ape_frac: float | None = None
    e2e_p90_ape_frac: float | None = None
    num_steps: int = 0
