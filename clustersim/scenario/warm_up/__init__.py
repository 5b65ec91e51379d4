"""Warm-up rules: which part of a run, from its start, the results leave out. One file a rule."""

from __future__ import annotations

from abc import abstractmethod

from clustersim.kinds import Part
from clustersim.records import Floats


class WarmUp(Part):
    """Base of the rules."""

    @abstractmethod
    def end_s(self, horizon_s: float, finish_s: Floats, latency_s: Floats) -> float:
        """Return when measuring starts, given the horizon and the finish times and latencies of all requests."""
