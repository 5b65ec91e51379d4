"""A session stays where it began."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.routers import Choice, Router, Targets
from clustersim.serving.routers.least_outstanding import least
from clustersim.serving.routers.ring import Ring


@register("router")
class SessionAffine(Router):
    """Send all requests of a session to the replica that its first one went to, while that is up.

    A task is a session, whatever its strategy. A session's first request, and the next after its replica went down,
    goes to the replica with the fewest unfinished requests. A request of no session goes by consistent hashing, if it
    begins as others do (a trace's hash_ids, a workload's `prefix`), wants a LoRA adapter, or the workload has several
    tenants: each such beginning, adapter or tenant has a replica of its own, and the next one takes over while that has
    more than `bound` times the mean of unfinished requests. Others go to the replica with the fewest.
    """

    kind: Literal["session_affine"] = "session_affine"
    bound: Annotated[float, Field(ge=1)] = 1.25
    """How far above the mean load of all replicas hashing may fill one (KubeAI's default for prefix hashing: 1.25)."""
    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"bound": 2.0})

    def start(self, targets: Targets) -> Choice:
        """See the class."""
        loads, ring = targets.loads, Ring(targets, self.bound)
        fewest = least(targets, attrgetter("requests"))
        homes: dict[int, int] = {}

        def choose(request: int) -> int:
            session = targets.session(request)
            if session >= 0:
                home = homes.get(session, -1)
                if home < 0 or not loads[home].up:
                    home = homes[session] = fewest(request)
                return home
            key = targets.key(request)
            return fewest(request) if key < 0 else ring.owner(key)

        return choose
