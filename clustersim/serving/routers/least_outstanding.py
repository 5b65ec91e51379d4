"""Least outstanding requests and least outstanding tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.routers import Choice, Load, Router


@register("router")
class LeastOutstandingRequests(Router):
    """Send each request to the replica with the fewest unfinished requests (the first of equals)."""

    kind: Literal["least_outstanding_requests"] = "least_outstanding_requests"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def start(self, load: Sequence[Load]) -> Choice:
        """See the class."""
        indices = range(len(load))
        return lambda _tokens: min(indices, key=lambda i: load[i].requests)


@register("router")
class LeastOutstandingTokens(Router):
    """Send each request to the replica with the fewest tokens, input and output, in unfinished requests.

    Output lengths are counted as if they were known at arrival: an upper bound on what a real router can do.
    """

    kind: Literal["least_outstanding_tokens"] = "least_outstanding_tokens"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def start(self, load: Sequence[Load]) -> Choice:
        """See the class."""
        indices = range(len(load))
        return lambda _tokens: min(indices, key=lambda i: load[i].tokens)
