"""The greenest first."""

from __future__ import annotations

from operator import attrgetter
from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.routers import Choice, Targets
from clustersim.serving.routers.thrift import Thrifty


@register("router")
class CarbonAware(Thrifty):
    """Send each request to the target that emits least for it, of those that are not full and keep its promise.

    Emissions are those of the site's grid at the replica's full power, cooling included, over requests a second at full
    load, for several deployments behind one workload; of equals the least loaded is taken. Where all are full, or none
    is expected to keep the promised TTFT, the request goes to the least loaded.
    """

    kind: Literal["carbon_aware"] = "carbon_aware"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"max_requests": None})

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        return self.thriftiest(targets, attrgetter("gco2e_per_request"))
