"""Requests that lost their replica: tried again after a while, as often as allowed, then given up."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from clustersim.records import LOST
from clustersim.simulation.client import client_of

if TYPE_CHECKING:
    from clustersim.simulation.front import Front


class Retries:
    """What the retry policy of a deployment comes to."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.policy = front.plan.deployment.retries
        self.left: dict[int, int | None] = {}
        """Request that waits for its next attempt -> the output tokens it has then to make, None for all of them."""

    def retry(self, request: int, made: int) -> None:
        """Send a request again after a while, or give it up; `made` output tokens were streamed before."""
        records, policy = self.front.records, self.policy
        over = records.num_retries[request] >= policy.max_retries
        left = None
        if made and (over or policy.resume == "continue"):
            left = records.thinking_tokens[request] + records.answer_tokens[request] - made
        if not over:
            records.num_retries[request] += 1
            if left is None:
                records.lost_tokens[request] += made
                records.first_token_s[request] = records.first_answer_s[request] = nan
        self.left[request] = left
        wait_s = 0.0 if over else policy.backoff_s
        self.front.world.after(wait_s, lambda _event: self._again(request, made, over))

    def _again(self, request: int, made: int, over: bool) -> None:
        """The wait is over: route the request, once no replica has anything of it left, or give it up."""
        if request not in self.left:
            return  # cancelled
        front = self.front
        world, now = front.world, front.world.env.now
        for each in (front, front.handover and front.handover.prefill):
            for replica in each.replicas if each else ():
                if request in replica.leaving:
                    replica.after_step(
                        lambda: world.after(0.0, lambda _event: self._again(request, made, over)), now
                    )
                    return
        left = self.left.pop(request)
        if over:
            self._give_up(request, made, now)
        else:
            front.route(request, now, left)

    def _give_up(self, request: int, made: int, now: float) -> None:
        """A request is lost for good, and all that it made."""
        world, records = self.front.world, self.front.records
        records.status[request] = LOST
        records.finish_s[request] = now
        records.lost_tokens[request] += made
        records.thinking_tokens[request] = records.answer_tokens[request] = 0
        call = world.calls.pop(request, None)
        if call is not None:
            client_of(call).refused(call, now)
        else:
            world.left(records.workload[request], now)
