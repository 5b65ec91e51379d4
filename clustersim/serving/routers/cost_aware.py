"""The cheapest first."""

from __future__ import annotations

from operator import attrgetter
from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.routers import Choice, Targets
from clustersim.serving.routers.thrift import Thrifty


@register("router")
class CostAware(Thrifty):
    """Send each request to the cheapest target that is not full and is expected to keep its promise.

    Cheapest is by dollars a second over requests a second at full load, for several deployments behind one workload;
    replicas of one deployment cost the same, and the least loaded is taken. Where all are full, or none keeps the
    promised TTFT, the request goes to the least loaded.
    """

    kind: Literal["cost_aware"] = "cost_aware"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"max_requests": 8, "keep_promise": False})

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        return self.thriftiest(targets, attrgetter("usd_per_request"))
