"""Requests that wait for a replica of their deployment to come up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clustersim.simulation.front import Front


class Parking:
    """Where a deployment's requests wait while none of its replicas is up, or none that prefills for it."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.left: dict[int, int | None] = {}
        """Request -> the output tokens it has still to make, None for all of them; in the order they came."""

    def park(self, request: int, left: int | None) -> None:
        """Keep a request until a replica is up, and have one started."""
        self.left[request] = left
        self.wake()

    def wake(self) -> None:
        """Have a replica started where there is none, here or where prompts are prefilled."""
        front = self.front
        for each in (front, front.handover and front.handover.prefill):
            if each and not each.num_up and each.lifecycle is not None:
                each.lifecycle.wake()

    def drain(self) -> None:
        """Route all that wait; who finds no replica is parked again."""
        for request in list(self.left):
            self.front.route(request, self.front.world.env.now, self.left.pop(request))
