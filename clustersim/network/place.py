"""Where a replica lies: which accelerators of which nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Share(NamedTuple):
    """Accelerators of one node, by number from 0."""

    node: int
    accelerators: tuple[int, ...]


class Place(NamedTuple):
    """The accelerators of one replica (or of a part of it) in one cluster, node by node, in order of rank."""

    cluster: str
    shares: tuple[Share, ...]

    @property
    def num_accelerators(self) -> int:
        """Accelerators in all."""
        return sum(len(share.accelerators) for share in self.shares)

    @property
    def nodes(self) -> tuple[int, ...]:
        """Numbers of the nodes."""
        return tuple(share.node for share in self.shares)

    def part(self, index: int, of: int) -> Place:
        """Return the `index`-th of `of` equal parts, as an attention data-parallel rank of a replica is one.

        Raises ValueError where the accelerators do not divide so.
        """
        size, left = divmod(self.num_accelerators, of)
        if left or not 0 <= index < of:
            raise ValueError(f"part {index} of {of} of {self.num_accelerators} accelerators")
        every = [(share.node, each) for share in self.shares for each in share.accelerators]
        return Place(self.cluster, _by_node(every[index * size : (index + 1) * size]))


def _by_node(pairs: Sequence[tuple[int, int]]) -> tuple[Share, ...]:
    found: dict[int, list[int]] = {}
    for node, accelerator in pairs:
        found.setdefault(node, []).append(accelerator)
    return tuple(Share(node, tuple(accelerators)) for node, accelerators in found.items())


def meetings(source: Place, target: Place) -> list[tuple[Share, Share, float]]:
    """Return who sends to whom, and which share of the bytes, where both hold them evenly in order of rank.

    Rank i of n has the bytes from i/n to (i+1)/n, on either side.
    """
    n, m = source.num_accelerators, target.num_accelerators
    found: list[tuple[Share, Share, float]] = []
    begin = 0
    for mine in source.shares:
        end = begin + len(mine.accelerators) * m
        other_begin = 0
        for other in target.shares:
            other_end = other_begin + len(other.accelerators) * n
            common = min(end, other_end) - max(begin, other_begin)
            if common > 0:
                found.append((mine, other, common / (n * m)))
            other_begin = other_end
        begin = end
    return found
