"""Schedulers: which requests a replica prefills in its next step. One file a policy."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field

from clustersim.kinds import Part
from clustersim.serving.replica import Replica


class Scheduler(Part):
    """Base of the schedulers."""

    max_num_seqs: int = Field(256, ge=1)
    """Sequences in a batch at most, per attention data-parallel rank (vLLM V1's default on most devices)."""

    @property
    @abstractmethod
    def max_step_tokens(self) -> int | None:
        """Tokens in one step at most; None where prompts bound it."""

    @abstractmethod
    def plan(self, replica: Replica) -> list[tuple[int, int]]:
        """Admit and preempt; return (request, tokens) to prefill in the next step."""

    @abstractmethod
    def open_to_arrivals(self, replica: Replica) -> bool:
        """Return whether a request that arrived now could join the batch at the next step boundary."""
