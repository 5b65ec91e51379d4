"""One interface to whatever is measured: CPU, CUDA, ROCm. torch is imported by the implementations alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

from calibrate.case import Clock

Timed = Callable[[], Any]


class DeviceBackend(ABC):
    """A device that operators run on and that can be timed.

    Implementations: calibrate.backends.cpu, .cuda (ROCm is torch's CUDA interface), and a recorded one for tests.
    """

    kind: Literal["cpu", "gpu"]
    clock: Clock
    """The clock that `time` reads."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Return the device's name as the driver says it."""

    @property
    @abstractmethod
    def dtypes(self) -> tuple[str, ...]:
        """Return the data types it can multiply in, as profiles name them."""

    @property
    @abstractmethod
    def torch_device(self) -> str:
        """Return the name torch knows it by."""

    @property
    def memory_bytes(self) -> int:
        """Return the device's whole memory: what the sizes of the benchmarks are bounded by."""
        raise NotImplementedError(f"{type(self).__name__} does not say how much memory it has")

    @property
    def cache_bytes(self) -> int:
        """Return the bytes of its last-level cache: operands rotate through more than twice as much."""
        raise NotImplementedError(f"{type(self).__name__} does not say how large its last-level cache is")

    @abstractmethod
    def time(self, call: Timed, calls: int = 1) -> float:
        """Return the seconds of `calls` calls, one after another, divided by `calls`."""

    @abstractmethod
    def flush_cache(self) -> None:
        """Make the next call find its operands outside every cache."""

    def spacer(self) -> Timed | None:
        """Return what runs untimed before each call of a cold case, so that caches are as other operators leave them.

        None where a flush of the cache does that, or nothing does.
        """
        return None

    @abstractmethod
    def synchronise(self) -> None:
        """Wait until everything launched has ended."""

    @abstractmethod
    def state(self) -> Mapping[str, float]:
        """Return readings that tell whether the device is free and at speed (clock_mhz, power_w, psi_cpu, load ...)."""

    @abstractmethod
    def contention(self) -> list[str]:
        """Return why samples taken now would not be the device's own, in words; empty if nothing speaks against it."""

    @abstractmethod
    def provenance(self) -> Mapping[str, str]:
        """Return driver, library and kernel versions, clocks, topology: everything a later reader would ask."""
