"""What the prompts of a workload have in common, where no trace says. One file a kind."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from clustersim.kinds import Part
from clustersim.workload.arrays import IntArray


class SharedTokens(NamedTuple):
    """Pieces of prompt that requests share, a forest.

    parent (k,): the piece before, -1 for none, always a lower number. tokens (k,): length of each.
    """

    parent: IntArray
    tokens: IntArray


class SharedPrefixes(Part):
    """How the prompts of requests begin alike. A request's shared tokens come before those of its lengths."""

    examples: ClassVar[tuple[dict[str, Any], ...]] = ()

    @abstractmethod
    def pieces(self, rng: np.random.Generator) -> SharedTokens:
        """Return the pieces that there are."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, num: int) -> IntArray:
        """Return the last shared piece (num,) of each of the next requests, -1 for none; one random number each."""
