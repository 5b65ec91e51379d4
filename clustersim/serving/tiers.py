"""A slower tier of the KV cache: host memory, drives or a remote store. It counts tokens, not bytes.

A piece is a stretch of one prefix, from `start` to `end` tokens after the beginning of the context, under the prefix's
key. What is loaded from a tier stays there; what comes again is not written again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple


class Piece(NamedTuple):
    """A stretch of a prefix."""

    key: Hashable
    start: int
    end: int


class Tier:
    """Room for `capacity` tokens of KV; the least recently used give way. A prefix has one piece here.

    Every operation is O(1), but for each piece that gives way.
    """

    __slots__ = ("_pieces", "capacity", "tokens")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = 0
        #: Least recently used first: key -> (start, end).
        self._pieces: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        """Return whether any of a prefix is here."""
        return key in self._pieces

    def end(self, key: Hashable, start: int) -> int:
        """Return up to where a prefix is here from `start` on; `start` if it is not."""
        low, high = self._pieces.get(key, (start, start))
        return high if low <= start < high else start

    def touch(self, key: Hashable) -> None:
        """Count a prefix as used now."""
        self._pieces.move_to_end(key)

    def put(self, piece: Piece) -> int:
        """Add a piece to what is here of its prefix; return the tokens that are new.

        Of two pieces with a gap between them the new one stays: it comes from a cache that still has what lies before.
        The tier may hold too much now: see `overflow`.
        """
        key, start, end = piece
        low, high = self._pieces.get(key, (start, start))
        if start > high or end < low:
            self.tokens -= high - low
            low = high = start
        joined = min(low, start), max(high, end)
        new = joined[1] - joined[0] - (high - low)
        self._pieces[key] = joined
        self._pieces.move_to_end(key)
        self.tokens += new
        return new

    def overflow(self) -> list[Piece]:
        """Let go of what is too much: the least recently used prefixes, of the last of them only the end."""
        gone = []
        while (over := self.tokens - self.capacity) > 0:
            key, (start, end) = next(iter(self._pieces.items()))
            keep = max(start, end - over)
            if keep > start:
                self._pieces[key] = start, keep
            else:
                del self._pieces[key]
            self.tokens -= end - keep
            gone.append(Piece(key, keep, end))
        return gone

    def drop(self, key: Hashable) -> None:
        """Let go of a prefix that nobody will ask for again."""
        start, end = self._pieces.pop(key, (0, 0))
        self.tokens -= end - start

    def clear(self) -> None:
        """Lose everything."""
        self._pieces.clear()
        self.tokens = 0
