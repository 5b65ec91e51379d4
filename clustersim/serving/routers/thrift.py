"""What cost and carbon have in common: the thriftiest target that has room and keeps promises."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import Annotated

from pydantic import Field

from clustersim.serving.routers import Choice, Facts, Router, Targets
from clustersim.serving.routers.least_outstanding import least


class Thrifty(Router):
    """Base of the routers that fill the thriftiest target first."""

    max_requests: Annotated[float, Field(gt=0)] | None = 64.0
    """Unfinished requests from which on a target is full, a replica of the fastest; no limit for none. Assumed: a batch
    of 64 is where decoding has most of its throughput and an H100 its usual token latency."""
    keep_promise: bool = True
    """Whether the predicted time to first token must be within the one promised, where one is."""

    def thriftiest(self, targets: Targets, price: Callable[[Facts], float]) -> Choice:
        """Return the choice of the target with the least price that has room and keeps the promise.

        Of equal prices the least loaded; where there is no such target, the least loaded of all.
        """
        loads, limit = targets.loads, self.max_requests
        prices = [price(facts) for facts in targets.facts]
        order = sorted(range(len(prices)), key=prices.__getitem__)
        tiers = [
            least(targets, attrgetter("requests"), list(tier))
            for _, tier in groupby(order, prices.__getitem__)
        ]
        fewest = least(targets, attrgetter("requests"))

        def choose(request: int) -> int:
            limit_s = targets.ttft_limit_s(request) if self.keep_promise else float("inf")
            for tier in tiers:
                at = tier(request)
                if at < 0 or (limit is not None and loads[at].requests >= limit):
                    continue
                if limit_s == float("inf") or targets.predicted_ttft_s(request, at) <= limit_s:
                    return at
            return fewest(request)

        return choose
