"""What an hour of an accelerator costs. One file a way to pay."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from clustersim.kinds import Part


class Cost(NamedTuple):
    """Dollars a second for one accelerator, whether electricity is in them, and how that is known."""

    usd_per_s: float
    includes_energy: bool
    evidence: str
    source: str


class Price(Part):
    """Base of the prices."""

    @abstractmethod
    def cost(self, published: Mapping[str, Cost]) -> Cost | None:
        """Return the cost, given those published for the accelerator by name; None where there is none."""
