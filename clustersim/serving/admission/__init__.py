"""Admission: who is let in at the front of a deployment, and who is turned away (HTTP 429). One file a policy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from clustersim.kinds import Part
from clustersim.serving.routers import Targets
from clustersim.units import PositiveSeconds

#: admit(request, now) -> whether it is let in.
Admit = Callable[[int, float], bool]


def _zero(_request: int) -> float:
    return 0.0


@dataclass(frozen=True)
class Entrance:
    """What an admission policy may ask about a deployment.

    targets: the replicas that prefill what comes in. num_outstanding(): its unfinished requests, those that wait for a
    replica included. num_up(): its replicas that take requests. priority(request): of its tenant, the lowest is the
    most urgent. arrival_s(request): when its user sent it, the frontend's delay before now.
    """

    targets: Targets
    num_outstanding: Callable[[], int]
    num_up: Callable[[], int]
    priority: Callable[[int], int] = field(default=lambda _request: 0)
    arrival_s: Callable[[int], float] = _zero


class Admission(Part):
    """Base of the admission policies."""

    exempt_priority: int | None = None
    """Requests of this priority, or a more urgent one (a lower number), are never turned away."""
    retry_after_s: PositiveSeconds = 1.0
    """How long a user of a closed loop who is turned away waits before asking for the next (HTTP's Retry-After)."""

    @abstractmethod
    def start(self, entrance: Entrance) -> Admit | None:
        """Return the choice for one run, None to let all in; `exempt_priority` is not its concern."""

    def patience_s(self, ttft_limit_s: float) -> float:  # noqa: ARG002 - the contract's
        """Return how long after its arrival a request may still wait to be scheduled; inf for no limit."""
        return inf

    def exempts(self, priority: int) -> bool:
        """Return whether requests of a priority are never turned away."""
        return self.exempt_priority is not None and priority <= self.exempt_priority
