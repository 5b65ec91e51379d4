"""Users who each wait for an answer, think, and ask again."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simpy import Event

from clustersim.errors import InputError
from clustersim.simulation.source import Source
from clustersim.workload.generate import Sampler, load_trace, whole_trace
from clustersim.workload.workload import Workload

if TYPE_CHECKING:
    from clustersim.simulation.world import World

_DRAW = 1024
#: A closed loop whose requests are all rejected would never end.
_MAX_REJECTED = 10_000


@dataclass
class ClosedLoop:
    """The users of one workload."""

    world: World
    source: Source
    index: int
    workload: Workload

    def start(self) -> None:
        """Let every user ask for the first time."""
        loop = self.workload.closed_loop
        assert loop is not None
        self.think_s = loop.think_time_s
        self.horizon_s = self.world.scenario.horizon_s
        trace = load_trace(self.workload)
        self.sampler = Sampler(self.workload, self.world.seed, trace)
        bound = self.workload if self.horizon_s is not None else whole_trace(self.workload, trace)
        self.limit = bound.num_requests
        self.rows: Iterator[int] = iter(())
        self.issued = 0
        self.refused = 0
        self.asking = False
        self.wait_s = 0.0
        if self.limit is None or self.world.total is None:
            self.world.total = None
        else:
            self.world.total += self.limit
        self.world.env.process(self._begin(loop.concurrency))

    def _begin(self, users: int) -> Generator[Event, None, None]:
        yield self.world.env.timeout(0)
        for _ in range(users):
            self._ask(0.0)

    def answered(self, now: float, wait_s: float = 0.0) -> None:
        """One user has an answer, or was refused, and asks again in `wait_s` seconds at the earliest."""
        if self.asking:
            self.wait_s = wait_s
            return  # refused at once: `_ask` goes on
        pause_s = max(self.think_s, wait_s)
        if pause_s:
            self.world.env.process(self._pause(now, pause_s))
        else:
            self._ask(now)

    def _pause(self, now: float, seconds: float) -> Generator[Event, None, None]:
        yield self.world.env.timeout(seconds)
        self._ask(now + seconds)

    def _ask(self, now: float) -> None:
        """Send a user's next request; one that is refused is answered at once, so the user asks again."""
        for _ in range(_MAX_REJECTED):
            if self.issued == self.limit or (self.horizon_s is not None and now >= self.horizon_s):
                return
            row = self._next()
            self.issued += 1
            self.source.issue(row, now)
            if self.source.delay_s:
                self.world.env.process(self._enter(row, now + self.source.delay_s))
                return
            self.asking, self.wait_s = True, 0.0
            accepted = self.source.begin(row, now)
            self.asking = False
            if self.wait_s:
                self.answered(now, self.wait_s)
            if accepted or self.wait_s:
                return
        raise InputError(
            f'workload "{self.workload.name}": {_MAX_REJECTED} requests in a row are longer than the '
            f"{self.source.front.longest:,} tokens that a replica of "
            f"{self.source.front.plan.deployment.name} can hold"
        )

    def _enter(self, row: int, at: float) -> Generator[Event, None, None]:
        yield self.world.env.timeout(self.source.delay_s)
        self.source.begin(row, at)

    def _next(self) -> int:
        row = next(self.rows, None)
        if row is None:
            left = _DRAW if self.limit is None else min(_DRAW, self.limit - self.issued)
            self.rows = iter(self.source.add(self.sampler.draw(left)))
            row = next(self.rows)
        return row
