"""A case: one thing to measure, with a stable key; and its samples. Everything else in calibrate speaks of these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

#: Which clock timed a sample: wall clock, CPU time of the thread, or the device's own events.
Clock = Literal["wall", "cpu", "event"]
#: What the cache held before each call.
Cache = Literal["cold", "warm"]


@dataclass(frozen=True)
class Case:
    """One measurement: a benchmark, an operator in it, a data type, its sizes, and where it runs."""

    bench: str
    """Module in calibrate.benches: "gemm", "attention_decode", "collective", ..."""
    op: str
    """Operator: "gemm", "all_reduce", "copy", ..."""
    dtype: str
    shape: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Sizes by name, e.g. m, n, k."""
    ranks: int = 1
    """Processes that take part."""
    path: str = ""
    """Which link or group of ranks: "node0-node1", "all", ...; empty on one device."""
    cache: Cache = "cold"

    @property
    def key(self) -> str:
        """Return a key that is the same in every run of the same case."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return plain data from which `Case(**data)` is equal."""
        names = (each.name for each in fields(self) if each.name != "shape")
        return {name: getattr(self, name) for name in names} | {"shape": dict(self.shape)}


@dataclass(frozen=True)
class Samples:
    """Every raw sample of one case in one repetition, in the order taken, and what was noticed meanwhile."""

    case: Case
    seconds: tuple[float, ...]
    clock: Clock
    calls_per_sample: int = 1
    """Calls that one sample is the mean of (very short operators are batched)."""
    rank: int = 0
    node: str = ""
    repetition: int = 0
    steady: bool = True
    """Whether warm-up reached a steady state before the first sample."""
    flags: tuple[str, ...] = ()
    """What speaks against the samples: "contended", "throttled", "mixed_regime", "canary_drift", ..."""
    notes: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Readings beside the samples: clock_mhz, power_w, psi_cpu, load, ..."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, one JSON line in the store."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        return data | {"case": self.case.as_dict(), "notes": dict(self.notes), "key": self.case.key}


@dataclass(frozen=True)
class Work:
    """What an operator does, in the cost model's terms (see clustersim.cost.profile)."""

    flops: float
    bytes: float
    depth: float = 0.0
    tasks: float = 0.0
