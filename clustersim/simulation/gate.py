"""The gate of a deployment: who is let in by its admission policy, and who is given up while waiting."""

from __future__ import annotations

from functools import cached_property
from math import inf, isnan
from typing import TYPE_CHECKING

from clustersim.records import SHED, WAITING
from clustersim.serving.admission import Admit, Entrance
from clustersim.simulation.client import client_of
from clustersim.simulation.removal import withdraw

if TYPE_CHECKING:
    from clustersim.simulation.front import Front


class Gate:
    """What the admission policy of a deployment comes to. Whoever is turned away is told at once."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.settings = front.plan.deployment.admission

    @cached_property
    def _admit(self) -> Admit | None:
        front, records = self.front, self.front.records
        prefills = front if front.handover is None else front.handover.prefill
        entrance = Entrance(
            prefills.targets,
            lambda: sum(load.requests for load in front.loads) + len(front.waiting()),
            lambda: front.num_up,
            lambda request: records.priority[request],
            lambda request: records.arrival_s[request],
        )
        return self.settings.start(entrance)

    def lets_in(self, request: int, now: float) -> bool:
        """Return whether a request that comes through the frontend is let in; write down one that is not."""
        front, records, settings = self.front, self.front.records, self.settings
        if settings.exempts(records.priority[request]):
            return True
        patience_s = settings.patience_s(front.targets.ttft_limit_s(request))
        wait_s = records.arrival_s[request] + patience_s - now
        if wait_s <= 0 or not (self._admit is None or self._admit(request, now)):
            self._write_down(request, now)
            return False
        if wait_s < inf:
            front.world.after(wait_s, lambda _event: self._give_up(request))
        return True

    def _give_up(self, request: int) -> None:
        """Turn a request away that has waited for too long, unless it was in a batch or is over."""
        front, world, records = self.front, self.front.world, self.front.records
        if records.status[request] != WAITING or not isnan(records.scheduled_s[request]):
            return
        if records.task[request] >= 0 and request not in world.calls:
            return  # cancelled, and taken off at the next step boundary
        now = world.env.now
        withdraw(front, request, now)
        self._write_down(request, now)
        call = world.calls.pop(request, None)
        if call is not None:
            client_of(call).refused(call, now)
        else:
            world.left(records.workload[request], now)

    def _write_down(self, request: int, now: float) -> None:
        records = self.front.records
        records.status[request] = SHED
        records.finish_s[request] = now
        records.thinking_tokens[request] = records.answer_tokens[request] = 0
