"""An accelerator: what one GPU, TPU, ASIC, wafer, phone or CPU can do at best, draws and costs.

Peaks are dense, bandwidths per direction. How much of a peak is reached belongs to measured profiles, except
the published achievable matmul fractions, which stand here beside the peaks that they qualify.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from clustersim.hardware.figure import Figure
from clustersim.hardware.reference import Ref, load
from clustersim.kinds import Value
from clustersim.units import Bytes, BytesPerSecond, FlopsPerSecond, Seconds, Usd, UsdPerSecond, Watts

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]

#: Precision of an operation -> the field that holds its peak. Microscaling runs at the plain format's rate.
_PEAKS: Mapping[str, str] = MappingProxyType(
    {
        "fp32": "fp32_flops_per_s",
        "tf32": "tf32_flops_per_s",
        "bf16": "bf16_flops_per_s",
        "fp16": "bf16_flops_per_s",
        "fp8": "fp8_flops_per_s",
        "int8": "int8_flops_per_s",
        "fp4": "fp4_flops_per_s",
        "mxfp4": "fp4_flops_per_s",
    }
)


class Accelerator(Value):
    """One accelerator; every figure is for one device and carries its evidence, source and date."""

    name: str
    vendor: str
    year: int
    """The year in which it was first sold."""
    needs_profile: bool = False
    """Whether its figures are placeholders, so that it cannot be simulated before a profile of it is measured."""
    kernels_of: str | None = None
    """A device of the same chip whose measured kernels stand in where this one was not measured."""
    kind: Literal["gpu", "consumer_gpu", "tpu", "asic", "wafer", "edge", "mobile", "cpu"]

    fp32_flops_per_s: Figure[FlopsPerSecond] | None = None
    tf32_flops_per_s: Figure[FlopsPerSecond] | None = None
    bf16_flops_per_s: Figure[FlopsPerSecond]
    fp8_flops_per_s: Figure[FlopsPerSecond] | None = None
    int8_flops_per_s: Figure[FlopsPerSecond] | None = None
    """Integer operations a second (`1979 TOP/s`)."""
    fp4_flops_per_s: Figure[FlopsPerSecond] | None = None
    matmul_frac: Figure[Fraction] | None = None
    """The share of the bf16 peak that the best large matrix product reaches (MAMF)."""
    fp8_matmul_frac: Figure[Fraction] | None = None
    """The same for fp8."""
    kernel_launch_s: Figure[Seconds]
    """The least time from one dependent kernel to the next."""

    memory_bytes: Figure[Bytes]
    memory_bandwidth_bytes_per_s: Figure[BytesPerSecond]
    host_link_bytes_per_s: Figure[BytesPerSecond] | None = None
    """To its host, per direction; absent where memory is shared with the host."""

    tdp_w: Figure[Watts]
    idle_w: Figure[Watts]
    allin_w: Figure[Watts] | None = None
    """The device with its share of host, network and cooling, as its source counts them."""

    price_usd: Figure[Usd] | None = None
    tco_hyperscaler_usd_per_s: Figure[UsdPerSecond] | None = None
    """Cost of owning and running it by time, all in, for a hyperscaler."""
    tco_neocloud_usd_per_s: Figure[UsdPerSecond] | None = None
    """The same for a GPU cloud that borrows at a higher rate."""
    rental_usd_per_s: Figure[UsdPerSecond] | None = None

    @model_validator(mode="after")
    def _idles_below_its_limit(self) -> Accelerator:
        if self.idle_w.value > self.tdp_w.value:
            raise PydanticCustomError("idle", "idle power must not be above tdp")
        return self

    @property
    def precisions(self) -> tuple[str, ...]:
        """Return the precisions for which this device has a peak."""
        return tuple(precision for precision, field in _PEAKS.items() if getattr(self, field) is not None)

    def peak_flops_per_s(self, precision: str) -> Figure[FlopsPerSecond]:
        """Return the dense peak for "bf16", "fp8", ...; raises KeyError where the device lacks it."""
        figure: Figure[FlopsPerSecond] | None = getattr(self, _PEAKS.get(precision, ""), None)
        if figure is None:
            raise KeyError(f"{self.name} has no {precision} peak; it has {', '.join(self.precisions)}")
        return figure


AcceleratorRef = Annotated[Accelerator, Ref("accelerators")]


def load_accelerator(name: str) -> Accelerator:
    """Return a built-in accelerator; raises InputError with the nearest names."""
    return load("accelerators", Accelerator, name)
