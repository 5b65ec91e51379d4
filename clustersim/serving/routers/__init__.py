"""Routers: which of several targets gets a request. One file a policy.

The targets are the replicas of one deployment, or, where a workload names several, the deployments themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from clustersim.kinds import Part

#: choose(request) -> index of a target that is up; there is one when it is asked.
Choice = Callable[[int], int]


class Router(Part):
    """Base of the routers: immutable settings that start a fresh choice for every run."""

    @abstractmethod
    def start(self, targets: Targets) -> Choice:
        """Return the choice function over these targets."""


class Load:
    """What a router may know of one target: unfinished requests, their tokens, input and output, and if it is up."""

    __slots__ = ("requests", "tokens", "up")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0
        self.up = True


@dataclass(frozen=True)
class Facts:
    """What does not change about a target."""

    prefill_tokens_per_s: float = 1.0
    """Of long prompts with nothing else to do."""
    usd_per_s: float = 0.0
    """What it costs while it is on; 0 where no price is known."""
    gco2e_per_s: float = 0.0
    """What it emits at full power."""
    num_replicas: int = 1


def _no_cache(_request: int, _target: int) -> int:
    return 0


def _no_session(_request: int) -> int:
    return -1


def _no_wait(_target: int) -> float:
    return 0.0


@dataclass
class Targets:
    """What a router chooses from, and what it may ask about it.

    loads: one a target, kept up to date. tokens(request): its input and output. cached(request, target): tokens of its
    input that are in the target's KV cache now. session(request): number of the session or task it belongs to, -1 for
    none. ttft_limit_s(request): the promised time to first token, inf for none. queue_s(target): seconds of prefill
    work that wait there. watchers are called with a target's index when its load changed or it went up or down.
    """

    loads: Sequence[Load]
    tokens: Callable[[int], int]
    cached: Callable[[int, int], int] = _no_cache
    session: Callable[[int], int] = _no_session
    input_tokens: Callable[[int], int] = field(default=lambda _request: 0)
    ttft_limit_s: Callable[[int], float] = field(default=lambda _request: float("inf"))
    queue_s: Callable[[int], float] = _no_wait
    facts: Sequence[Facts] = ()
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    watchers: list[Callable[[int], None]] = field(default_factory=list)

    def up(self) -> list[int]:
        """Return the targets that take requests, in order."""
        return [index for index, load in enumerate(self.loads) if load.up]
