"""Sources: what a workload sends, requests or tasks. The same arrivals drive both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from clustersim.simulation.front import Front
from clustersim.simulation.gateway import Gateway
from clustersim.workload.generate import Requests
from clustersim.workload.workload import Workload

if TYPE_CHECKING:
    from clustersim.simulation.world import World


class Source(Protocol):
    """What arrivals and users start."""

    front: Front
    delay_s: float
    """From arrival to `begin`."""

    def add(self, requests: Requests) -> range:
        """Write down what will come and return its rows."""

    def issue(self, row: int, now: float) -> None:
        """Note that a user asked now."""

    def begin(self, row: int, now: float) -> bool:
        """Start one now; False if it was refused at once."""


class RequestSource:
    """Sends plain requests."""

    def __init__(self, world: World, front: Front, index: int, workload: Workload) -> None:
        self.world = world
        self.front = front
        self.index = index
        self.delay_s = front.delay_s
        self._priority = np.array([tenant.priority for tenant in workload.all_tenants])

    def add(self, requests: Requests) -> range:
        """See `Source.add`; rows of RequestRecords."""
        count = len(requests)
        return self.world.records.extend(
            {
                "arrival_s": requests.arrival_s,
                "input_tokens": requests.input_tokens,
                "thinking_tokens": requests.thinking_tokens,
                "answer_tokens": requests.answer_tokens,
                "tenant": requests.tenant,
                "adapter": requests.adapter,
                "prefix": requests.prefix,
                "priority": self._priority[requests.tenant],
                "workload": np.full(count, self.index),
                "deployment": np.full(count, self.front.plan.index),
                "task": np.full(count, -1),
            }
        )

    def issue(self, row: int, now: float) -> None:
        """See `Source.issue`."""
        self.world.records.arrival_s[row] = now

    def begin(self, row: int, now: float) -> bool:
        """See `Source.begin`."""
        return self._enter(row, self.front, now)

    def _enter(self, row: int, front: Front, now: float) -> bool:
        if front.submit(row, now):
            return True
        self.world.left(self.index, now, front.wait_after(row))
        return False


class SharedSource(RequestSource):
    """Sends plain requests to several deployments, each to the one that a gateway picks when it arrives."""

    def __init__(self, world: World, gateway: Gateway, index: int, workload: Workload) -> None:
        super().__init__(world, gateway.longest, index, workload)
        self.gateway = gateway
        self.delay_s = 0.0  # that of the deployment comes once it is known

    def begin(self, row: int, now: float) -> bool:
        """See `Source.begin`."""
        branch = self.gateway.pick(row)
        self.world.records.deployment[row] = branch.front.plan.index
        delay_s = branch.latency_s + branch.front.delay_s
        if not delay_s:
            return self._enter(row, branch.front, now)
        tokens = self.gateway.tokens(row)
        branch.expect(1, tokens)

        def enter() -> None:
            self._enter(row, branch.front, self.world.env.now)
            branch.expect(-1, -tokens)

        self.world.after(delay_s, lambda _event: enter())
        return True
