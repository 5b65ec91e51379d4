"""A device profile: the share of its peaks that a device reaches, by operator, as fitted on measurements.

Every operator obeys one law, the same for all devices and families:

    seconds = (compute^p + memory^p + span^p + issue^p)^(1/p) + overhead_s
    compute = flops / (peak_flops_per_s * compute_frac)       span  = depth * span_s
    memory  = bytes / (bandwidth * memory_frac)               issue = tasks * task_s

It is the roofline (Williams et al., CACM 2009) with a smooth corner (p = `smoothness`; infinity is sharp) and
the work-span law (Brent 1974): no machine beats its longest chain of dependent steps, nor the time it takes
to start its blocks. Fractions are at most 1 and the rest at least 0, so the law never beats the roofline, and
more bandwidth or FLOP/s is never slower.

    family             flops                      bytes                                      depth   tasks
    gemm               2 m n k                    m k a + k n w + 2 m n                      k       [m] [n]
    attention_prefill  4 B h d P                  B T d (h (a + 2) + 2 v a)                  T       B h [T]
    attention_decode   4 B h d L                  2 B L v d c + 4 B h d                      L       B v
    mla_prefill        2 B h P (192 + 128)        B T h (192 + 192 + 128 + 128) 2            T       B h [T]
    mla_decode         2 B h L (2 512 + 64)       B L (512 + 64) c + 2 B h (2 512 + 64)      L       B
    moe                2 R M H I                  E M H I w + 4 R (2 H + M I) + 4 T H        max     tiles

a, w, c: bytes of an element of activations, weights, KV cache. B sequences of T new tokens, or of one over L
tokens of context with itself; h query and v KV heads of size d; P = T (T + 1) / 2 causal pairs; [x] is
ceil(x / 128). moe, a rank: T tokens present, R rows (token, expert) over E touched experts of hidden H and
inner I, M = 3 matrices (2 ungated); max = max(H, I); tiles = R ((M - 1) I + H) / 128^2. mla: nope 128,
rope 64, value 128, latent 512. What operators pass on has 2 bytes an element, 4 in models of fp32.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError

from clustersim import library
from clustersim.cost.measured import DeviceFigures, Quality, Validation
from clustersim.errors import InputError, unknown
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.figure import BY_USER, Evidence, Figure
from clustersim.kinds import Value
from clustersim.units import Bytes, BytesPerSecond, Seconds, Watts
from clustersim.yaml_file import problems_of, read_yaml

Array = NDArray[np.float64]
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Precision = Literal["bf16", "fp8", "int8", "fp4", "fp32"]

#: Data type in a profile -> the peak its matrix products run at (weight-only formats compute in bf16).
PEAKS: Mapping[str, Precision] = {
    "bf16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "int8": "int8", "w8a16": "bf16",
    "w4a16": "bf16", "w4a16_mxfp4": "bf16", "w4a8_mxfp4": "fp8",
    "fp32": "fp32",
}  # fmt: skip
#: Other words for the same data type.
SYNONYMS: Mapping[str, str] = {"fp16": "bf16", "fp4": "nvfp4", "mxfp4": "w4a16_mxfp4", "int4": "w4a16"}
#: Families whose data type is that of the KV cache: their products run in bf16.
BY_KV_DTYPE = ("attention_decode", "mla_prefill", "mla_decode")
#: Families that read a cache and do little else: one that must be widened is read as one of fp8 is, which must be too.
_DECODE, _NARROW = ("attention_decode", "mla_decode"), ("w8a16", "w4a16")
#: Steps of a ring collective among n ranks, as a multiple of n - 1; also its wire bytes, as a multiple of
#: message_bytes * (n - 1) / n (the "bus" factors of nccl-tests, doc/PERFORMANCE.md).
RING_STEPS: Mapping[str, int] = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "all_to_all": 1}

#: The source of a figure that a scenario sets (see `Figure`).
_EVIDENCE_ORDER: tuple[Evidence, ...] = ("measured", "fitted", "datasheet", "published", "assumed")


def smooth_max(terms: ArrayLike, p: float) -> Array:
    """Return (sum of terms^p)^(1/p) over the first axis: at least the largest, at most their sum (p >= 1)."""
    parts = np.asarray(terms, dtype=float)
    largest = np.maximum(parts.max(axis=0), 1e-300)
    return np.asarray(largest * ((parts / largest) ** p).sum(axis=0) ** (1.0 / p))


class Error(Value):
    """Absolute percentage errors on held-out shapes, as fractions of the measured time."""

    num_test: int
    median_ape_frac: float
    p90_ape_frac: float
    baseline_median_ape_frac: float
    """The same for one constant times the raw roofline, the constant chosen for the least median error."""
    baseline_p90_ape_frac: float


class Fit(Value):
    """The law's constants for one family of operators and one data type on one device."""

    compute_frac: Fraction
    memory_frac: Fraction
    overhead_s: Seconds
    """Time of an empty operator, as its engine launches it back to back."""
    smoothness: Annotated[float, Field(ge=1.0)] = 50.0
    span_s: Seconds = 0.0
    """Time of one dependent step: an element of k in a matrix product, a token of context in attention."""
    task_s: Seconds = 0.0
    """Time to start one block, all processors at work."""
    peak: Precision = "bf16"
    """The peak that `compute_frac` is a share of."""
    evidence: Evidence
    source: str
    num_rows: int = 0
    """Rows fitted, held-out ones not among them."""
    num_refused: int = 0
    """Rows left out because they beat the raw roofline, which no machine can."""
    error: Error | None = None
    """On the shapes of models (`bands` says which), held out."""
    table_error: Error | None = None
    """The same, with the law corrected by the profile's measured rows, none of them held out."""
    bands: dict[str, Error] = Field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Constant -> its 95 % interval (SI), by bootstrap over runs, then samples."""

    def seconds(
        self,
        flops: ArrayLike,
        bytes_: ArrayLike,
        depth: ArrayLike,
        tasks: ArrayLike,
        *,
        peak_flops_per_s: float,
        bandwidth_bytes_per_s: float,
    ) -> Array:
        """Return the time of operators, elementwise; `peak_flops_per_s` is the device's for `self.peak`."""
        terms = np.broadcast_arrays(
            np.asarray(flops, dtype=float) / (peak_flops_per_s * self.compute_frac),
            np.asarray(bytes_, dtype=float) / (bandwidth_bytes_per_s * self.memory_frac),
            np.asarray(depth, dtype=float) * self.span_s,
            np.asarray(tasks, dtype=float) * self.task_s,
        )
        return smooth_max(terms, self.smoothness) + self.overhead_s

    def stands_in(self, why: str, peak: Precision) -> Fit:
        """Return this fit for something it was not fitted on: `assumed`, and without the errors."""
        changes: dict[str, object] = {"source": f"{why}: {self.source}", "evidence": "assumed", "peak": peak}
        changes |= {"num_rows": 0, "num_refused": 0, "error": None, "table_error": None}
        return self.model_copy(update={**changes, "bands": {}, "intervals": {}})


class CollectiveFit(Value):
    """One collective on the scale-up fabric: a pipelined ring's time against message size and ranks.

    latency = launch_s + steps * hop_s;  flow = wire_bytes / (link * bandwidth_frac[n]);
    seconds = latency + flow + 2 * ramp * sqrt(latency * flow)

    The square root is the cost of filling a pipeline of best chunks (ramp = 1 is the textbook's, 0 none).
    steps and wire bytes are the ring's (`RING_STEPS`), so reduction in the switch shows as a `bandwidth_frac`
    above 1 for all_reduce, never above 2 (n - 1) / n. message_bytes: nccl-tests' size (what all_gather ends
    with, reduce_scatter starts with, each rank sends in all_to_all, itself included).
    """

    operation: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
    launch_s: Seconds
    hop_s: Seconds
    ramp: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    bandwidth_frac: dict[int, Annotated[float, Field(gt=0.0, lt=2.0)]]
    """Ranks -> share of the link, per direction; between them linear in log ranks, outside the nearest."""
    link_bytes_per_s: BytesPerSecond
    """The link's datasheet bandwidth that the shares are of."""
    largest_message_bytes: Bytes
    """Measured up to here; a small-message kernel hands over to NCCL above."""
    evidence: Evidence
    source: str
    num_rows: int = 0
    error: Error | None = None

    def seconds(
        self, message_bytes: ArrayLike, num_gpus: ArrayLike, link_bytes_per_s: float | None = None
    ) -> Array:
        """Return the time of collectives, elementwise; 0 for one rank. By default over the measured link."""
        n = np.asarray(num_gpus, dtype=float)
        steps = RING_STEPS[self.operation] * (n - 1.0)
        ranks = sorted(self.bandwidth_frac)
        share = np.interp(np.log(n), np.log(ranks), [self.bandwidth_frac[rank] for rank in ranks])
        latency = self.launch_s + steps * self.hop_s
        wire = np.asarray(message_bytes, dtype=float) * steps / n
        flow = wire / ((link_bytes_per_s or self.link_bytes_per_s) * share)
        return np.where(n > 1, latency + flow + 2.0 * self.ramp * np.sqrt(latency * flow), 0.0)


class Imbalance(Value):
    """How much longer the busiest expert-parallel rank takes under skewed routing than under even routing."""

    law: str
    prefill: dict[int, float]
    """Expert-parallel ranks -> median ratio of times at 64 or more tokens an expert."""
    decode: dict[int, float]
    """The same at 1/4 to 4 tokens an expert: skewed routing touches fewer experts, so it can be below 1."""
    num_rows: int


class Provenance(Value):
    """Where a profile's rows came from."""

    package: str
    license: str
    engine: str
    engine_version: str
    tables: list[str] = Field(default_factory=list)
    date: str
    num_rows: int = 0
    caveats: list[str] = Field(default_factory=list)
    machine: dict[str, str] = Field(default_factory=dict)
    """Driver, library and kernel versions, CPU flags, governor, clocks, environment; the host's name is hashed."""
    plan: str = ""
    plan_hash: str = ""
    started: str = ""
    ended: str = ""


class Profile(Value):
    """Everything fitted for one device from one source; read from `profiles/<device>/<name>/profile.yaml`."""

    schema_version: Literal[1] = Field(alias="schema")
    device: str
    name: str
    evidence: Evidence
    provenance: Provenance
    fits: dict[str, dict[str, Fit]]
    """Family -> data type -> fit."""
    collectives: dict[str, dict[str, CollectiveFit]] = Field(default_factory=dict)
    """Operation -> implementation ("nccl", "custom") -> fit."""
    moe_imbalance: Imbalance | None = None
    tables: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Family -> data type -> Parquet file of measured rows, relative to the profile's folder."""
    device_figures: DeviceFigures | None = None
    host: dict[str, Figure[Seconds]] = Field(default_factory=dict)
    """Times of the host: of a dispatch, a launch, a synchronisation, ..."""
    power: dict[str, Figure[Watts]] = Field(default_factory=dict)
    """Draw by what the device does: idle, gemm, memory, ..."""
    gaps: dict[str, str] = Field(default_factory=dict)
    """What was not measured -> why."""
    quality: Quality | None = None
    validation: Validation | None = None
    unvalidated: bool = False
    """Whether it was measured and never held against whole steps of a model."""

    def table_file(self, family: str, dtype: str) -> Path | None:
        """Return the file of measured rows of a family and data type, None where there is none."""
        file = self.tables.get(family, {}).get(SYNONYMS.get(dtype, dtype))
        if file is None:
            return None
        places = [root / self.device / self.name / file for root in (user_folder(), folder())]
        return next((place for place in places if place.is_file()), None)

    def applied_to(self, device: Accelerator) -> Accelerator:
        """Return the accelerator with the figures measured on it, where this profile's fractions are shares of them.

        What the user set in a scenario stays as set.
        """
        measured = self.device_figures
        if measured is None or measured.fractions_of == "datasheet":
            return device
        figures: dict[str, Figure[float] | None] = {
            f"{dtype}_flops_per_s": figure for dtype, figure in measured.peak_flops_per_s.items()
        }
        for name in ("memory_bandwidth_bytes_per_s", "memory_bytes", "kernel_launch_s"):
            figures[name] = getattr(measured, name)
        return device.model_copy(
            update={
                name: figure
                for name, figure in figures.items()
                if figure is not None
                and name in type(device).model_fields
                and getattr(getattr(device, name), "source", "") != BY_USER
            }
        )

    def fit(self, family: str, dtype: str = "bf16") -> Fit:
        """Return the constants for a family and data type, and in `source` how far they had to be fetched.

        Asked: this device and type; then its bf16 (of decode attention over an integer or 4-bit cache, its fp8); then
        the generic profile. Unknown: InputError.
        """
        name = SYNONYMS.get(dtype, dtype)
        if name not in PEAKS:
            raise InputError(unknown("data type", dtype, [*PEAKS, *SYNONYMS]))
        peak: Precision = "bf16" if family in BY_KV_DTYPE else PEAKS[name]
        for profile in (self, generic()):
            fits = profile.fits.get(family, {})
            fetched = "" if profile is self else f"no {family} fit for {self.device}, generic in its place; "
            if name in fits:
                return fits[name].stands_in(fetched.strip("; "), peak) if fetched else fits[name]
            if family in _DECODE and name in _NARROW and "fp8" in fits:
                return fits["fp8"].stands_in(f"{fetched}no {name} fit, fp8's in its place", peak)
            if "bf16" in fits:
                return fits["bf16"].stands_in(f"{fetched}no {name} fit, bf16's in its place", peak)
        raise InputError(unknown("operator family", family, generic().fits))

    def collective(self, operation: str, implementation: str = "nccl") -> CollectiveFit | None:
        """Return the fit of a collective, or None where this device has none."""
        return self.collectives.get(operation, {}).get(implementation)


def folder() -> Path:
    """Return where the built-in profiles lie."""
    return library.ROOT / "hardware_specs" / "profiles"


def user_folder() -> Path:
    """Return where a user's own profiles lie: $CLUSTERSIM_PROFILES, or ~/.clustersim/profiles.

    `python -m calibrate run` writes there, and `load_profile` looks there first, so that what was measured is
    used with no other step.
    """
    given = os.environ.get("CLUSTERSIM_PROFILES", "")
    return Path(given).expanduser() if given else Path.home() / ".clustersim" / "profiles"


def load_profile(device: str, name: str | None = None, kernels: str | None = None) -> Profile | None:
    """Return a device's profile, or None where it has none (then `generic` serves).

    The user's profiles and the built-in ones count alike; of one name, the user's. Without a name: the one of the
    best evidence (measured, fitted, ..., assumed), of those the one named by `kernels` (an engine's own), and of
    the rest the newest; one measured while other programs
    ran yields to any other. Families and collectives that it lacks come from the next best.
    """
    return _load_profile(device, name, kernels, (folder(), user_folder()))


@cache
def _load_profile(
    device: str, name: str | None, kernels: str | None, folders: tuple[Path, ...]
) -> Profile | None:
    paths = {
        path.parent.name: path for root in folders for path in sorted((root / device).glob("*/profile.yaml"))
    }
    if name is not None:
        if name not in paths:
            raise InputError(unknown(f"profile of {device}", name, paths))
        return read_profile(paths[name])
    profiles = sorted((read_profile(path) for path in paths.values()), key=_newest, reverse=True)
    profiles.sort(key=lambda profile: (*_worth(profile), profile.name != kernels))
    return _completed(profiles[0], profiles[1:]) if profiles else None


def forget_profiles() -> None:
    """Look at the folders anew when a profile is next asked for."""
    _load_profile.cache_clear()


def _newest(profile: Profile) -> tuple[str, str]:
    return profile.provenance.date, profile.provenance.ended


def _worth(profile: Profile) -> tuple[bool, int]:
    contended = profile.quality is not None and profile.quality.contended
    return contended, _EVIDENCE_ORDER.index(profile.evidence)


def _completed(best: Profile, others: Sequence[Profile]) -> Profile:
    """Return `best` with what it lacks from the others; fractions of measured peaks mix with no others."""
    if best.evidence != "measured" or (
        best.device_figures and best.device_figures.fractions_of == "measured"
    ):
        return best
    fits, collectives = dict(best.fits), dict(best.collectives)
    for other in others:
        if other.device_figures is None or other.device_figures.fractions_of == "datasheet":
            fits |= {family: fit for family, fit in other.fits.items() if family not in fits}
            collectives |= {name: fit for name, fit in other.collectives.items() if name not in collectives}
    imbalance = next((p.moe_imbalance for p in (best, *others) if p.moe_imbalance), None)
    return best.model_copy(update={"fits": fits, "collectives": collectives, "moe_imbalance": imbalance})


@cache
def generic() -> Profile:
    """Return the profile for devices without one: published priors, all `assumed`."""
    return read_profile(folder() / "generic" / "default" / "profile.yaml")


def read_profile(path: Path) -> Profile:
    """Read one profile; raises InputError with file and line."""
    document = read_yaml(path)
    try:
        return Profile.model_validate(document.data)
    except ValidationError as error:
        raise InputError(problems_of(error, document, Profile)) from None
