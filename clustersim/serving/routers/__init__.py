"""Routers: which of several targets gets a request. One file a policy.

The targets are the replicas of one deployment, or, where a workload names several, the deployments themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from clustersim.kinds import Part

#: choose(request) -> index of a target that is up; there is one when it is asked.
Choice = Callable[[int], int]


class Router(Part):
    """Base of the routers: immutable settings that start a fresh choice for every run."""

    counts_cached: ClassVar[bool] = False
    """Whether it asks for `AnyLoad.cached_tokens`, which costs a look into the cache a request."""

    @abstractmethod
    def start(self, targets: Targets) -> Choice:
        """Return the choice function over these targets."""

    def problems(self, names: Sequence[str]) -> Iterator[str]:  # noqa: ARG002 - for those who name targets
        """Yield what is wrong with these settings for deployments of these names; none for replicas of one."""
        return iter(())


class AnyLoad(Protocol):
    """What a router may know of a target's load: unfinished requests, their tokens, input and output, and if it is up.

    Where targets are deployments, requests and tokens are those for each replica of the fastest: divided by how many
    such replicas do the work of a deployment's that are up.
    """

    @property
    def requests(self) -> float:
        """Unfinished requests."""

    @property
    def tokens(self) -> float:
        """Their input and output tokens."""

    @property
    def cached_tokens(self) -> float:
        """Of these, the input tokens that were in the cache when each came; 0 where targets are deployments."""

    @property
    def up(self) -> bool:
        """Whether it takes requests."""


class Load:
    """The load of one replica; see AnyLoad."""

    __slots__ = ("cached_tokens", "requests", "tokens", "up")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0
        self.cached_tokens = 0
        self.up = True


@dataclass(frozen=True)
class Facts:
    """What does not change about a target: a replica, or one of a deployment's."""

    prefill_tokens_per_s: float = 1.0
    """Of long prompts with nothing else to do."""
    requests_per_s: float = 1.0
    """Of the mean request, with as many at once as it has room for; 1 for all where targets are equal."""
    usd_per_s: float = 0.0
    """What it costs while it is on; 0 where no price is known."""
    gco2e_per_s: float = 0.0
    """What it emits at full power."""
    num_replicas: int = 1
    latency_s: float = 0.0
    """The round trip to it."""
    name: str = ""
    """Of the deployment."""

    @property
    def usd_per_request(self) -> float:
        """Dollars by request at full load."""
        return self.usd_per_s / self.requests_per_s

    @property
    def gco2e_per_request(self) -> float:
        """Grams of CO2 equivalent by request at full load."""
        return self.gco2e_per_s / self.requests_per_s


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
    input that are in the target's KV cache now. holders(request): (tokens, targets that may have so many of its input
    and no more, if named only here), the most tokens first; others have none. Not given: any may have any.
    session(request): number of the session or task it belongs to, -1 for none. key(request): a number that requests
    which begin alike share, or those of one tenant; -1 for none. ttft_limit_s(request): the promised time to first
    token, inf for none. queue_s(target): seconds of prefill work that wait there. facts: one a target. watchers are
    called with a target's index when its load changed or it went up or down.
    """

    loads: Sequence[AnyLoad]
    tokens: Callable[[int], int]
    cached: Callable[[int, int], int] = _no_cache
    session: Callable[[int], int] = _no_session
    input_tokens: Callable[[int], int] = field(default=lambda _request: 0)
    ttft_limit_s: Callable[[int], float] = field(default=lambda _request: float("inf"))
    queue_s: Callable[[int], float] = _no_wait
    facts: Sequence[Facts] = ()
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    watchers: list[Callable[[int], None]] = field(default_factory=list)
    holders: Callable[[int], Iterable[tuple[int, Iterable[int]]]] | None = None
    key: Callable[[int], int] = _no_session

    def __post_init__(self) -> None:
        if not self.facts:
            self.facts = (Facts(),) * len(self.loads)

    def up(self) -> list[int]:
        """Return the targets that take requests, in order."""
        return [index for index, load in enumerate(self.loads) if load.up]

    def best(self, request: int, cost: Callable[[AnyLoad, int], Any], start: int) -> int:
        """Return a target that is up with the least cost(load, cached tokens of the request's input).

        cost never falls with load nor with fewer cached tokens, and no load up costs less than that of `start` with as
        many: so that targets which have too little of the input in their caches need not be looked at.
        """
        loads, cached = self.loads, self.cached
        least = loads[start]
        best = cost(least, cached(request, start)), start
        every: Iterable[tuple[int, Iterable[int]]] = ((self.input_tokens(request), range(len(loads))),)
        for most, holders in every if self.holders is None else self.holders(request):
            if best[0] <= cost(least, most):
                break
            for at in holders:
                if loads[at].up:
                    best = min(best, (cost(loads[at], cached(request, at)), at))
        return best[1]

    def predicted_ttft_s(self, request: int, target: int) -> float:
        """Return the round trip, the prefill work that waits at a target, and the request's own, in seconds.

        What the request would wait for a place in a full batch is not in it.
        """
        facts = self.facts[target]
        own = self.input_tokens(request) - self.cached(request, target)
        return facts.latency_s + self.queue_s(target) + max(1, own) / facts.prefill_tokens_per_s
