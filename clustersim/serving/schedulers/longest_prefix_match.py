"""Requests whose inputs are in the cache go first: SGLang's cache-aware order."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.serving.batch import Batch
from clustersim.serving.schedulers.continuous import Continuous


@register("scheduler")
class LongestPrefixMatch(Continuous):
    """Admit first the request of whose input most tokens are in the KV cache; others can starve.

    SGLang's `--schedule-policy lpm` (Zheng et al., arXiv:2312.07104, 3): the queue is ordered anew before each step, as
    long as it is short. Among equals the order stays. Prefills go alone, as in SGLang, unless `mixed_chunk`. Left
    out: SGLang lets one of several waiting requests with a prefix in common go ahead of the others; here the others
    wait while that one computes it.
    """

    kind: Literal["longest_prefix_match"] = "longest_prefix_match"
    mixed_chunk: bool = False
    """Whether prefill chunks and decodes share a step (SGLang's `--enable-mixed-chunk`)."""
    max_ordered: int = Field(128, ge=0)
    """A queue longer than that is served as it stands (128 in SGLang's schedule_policy.py)."""

    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"mixed_chunk": True, "token_budget": 512})

    @property
    def prefills_alone(self) -> bool:
        """Whether chunks are not mixed with decodes."""
        return not self.mixed_chunk

    def plan(self, batch: Batch) -> list[tuple[int, int]]:
        """See the class."""
        waiting = batch.waiting
        if 1 < len(waiting) <= self.max_ordered:
            cached = batch.sharing.cached
            ordered = sorted(waiting, key=lambda request: -cached(request))
            waiting.clear()
            for request in ordered:
                waiting.append(request)
        return super().plan(batch)

    def open_to_arrivals(self, batch: Batch) -> bool:
        """Return whether whoever comes may be first, a slot being free, or is ordered with those who wait.

        Among those who have as much in cache the order stays: it depends on what was cached at each step before.
        """
        return self.slots(batch) > 0 or len(batch.waiting) < self.max_ordered
