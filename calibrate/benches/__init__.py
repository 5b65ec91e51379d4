"""Benchmarks: what can be measured. One file a family of operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from calibrate.backend import DeviceBackend, Timed
from calibrate.case import Case, Work

PlanName = Literal["quick", "default", "full"]


class Bench(ABC):
    """A family of operators on one device. Benchmarks of several ranks are in calibrate.cluster."""

    name: ClassVar[str]
    family: ClassVar[str | None] = None
    """Family of the cost model that its rows calibrate; None for benchmarks that give other parameters."""

    @abstractmethod
    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return the cases of a plan in the order of their worth: a run that is cut short keeps the best."""

    @abstractmethod
    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the call to time, operands allocated and (case.cache cold) rotated through more than the caches."""

    @abstractmethod
    def work(self, case: Case) -> Work:
        """Return what one call does, by the definitions of clustersim.cost.profile."""

    def gaps(self, backend: DeviceBackend) -> Sequence[str]:  # noqa: ARG002 - a contract
        """Return what it cannot measure on this device and why, in words."""
        return ()


def benches() -> Mapping[str, Bench]:
    """Return every benchmark by name; every module of this package is imported once."""
    import importlib
    import pkgutil

    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {cls.name: cls() for cls in sorted(Bench.__subclasses__(), key=lambda cls: cls.name)}
