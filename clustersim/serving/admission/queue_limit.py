"""A bound on unfinished requests."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.admission import Admission, Admit, Entrance


@register("admission")
class QueueLimit(Admission):
    """Turn a request away while the deployment has `max_outstanding` unfinished ones for each replica that is up.

    What Text Generation Inference does by `--max-concurrent-requests` and Ray Serve by `max_ongoing_requests` and
    `max_queued_requests`. Where no replica is up there is room as for one, so that a fleet scaled to zero can wake.
    """

    kind: Literal["queue_limit"] = "queue_limit"
    max_outstanding: Annotated[int, Field(ge=1)]
    """Unfinished requests a replica, running ones included."""
    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"max_outstanding": 8},
        {"max_outstanding": 1, "exempt_priority": 0},
    )

    def start(self, entrance: Entrance) -> Admit | None:
        """See the class."""
        limit = self.max_outstanding

        def admit(_request: int, _now: float) -> bool:
            return entrance.num_outstanding() < limit * max(1, entrance.num_up())

        return admit
