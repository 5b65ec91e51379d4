"""Paged KV cache of one replica: blocks counted, never listed; prefixes shared by reference, evicted when idle."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol


class Prefix:
    """KV of tokens that several sequences share: whole blocks, on top of its parent's.

    tokens: length from the start of the context, a multiple of the block size. cuts: lengths, in order, at which a part
    of it may end: it is computed and evicted piece by piece; none where it comes and goes as a whole. held: length up
    to which it is in the cache now, if `resident`. blocks: its own in the cache, beyond its parent's.
    users: sequences in the batch that rest on it, and prefixes right on top of it that have users themselves.
    children: resident prefixes right on top of it, which is all there then. key: what it is called on other replicas
    and in slower tiers. dropped: nobody will ask for it again. A prefix belongs to one replica.
    """

    __slots__ = (
        "blocks", "builder", "children", "cuts", "dropped", "held", "key", "parent", "resident", "tokens", "users",
    )  # fmt: skip

    def __init__(
        self, parent: Prefix | None = None, key: Hashable = None, tokens: int = 0, cuts: Sequence[int] = ()
    ) -> None:
        self.key = key
        self.parent = parent
        self.tokens = tokens
        self.cuts = cuts
        self.held = 0
        self.blocks = 0
        self.users = 0
        self.children = 0
        self.resident = False
        self.dropped = False
        self.builder: int | None = None
        """The request in the batch that is computing it."""

    @property
    def start(self) -> int:
        """Tokens that lie before it."""
        return self.parent.tokens if self.parent is not None else 0

    def cut(self, tokens: int) -> int:
        """Return the longest part of it, or of what lies before it, that is no longer than `tokens`."""
        if tokens >= self.tokens:
            return self.tokens
        place = bisect_right(self.cuts, tokens)
        return self.cuts[place - 1] if place else 0


class Below(Protocol):
    """What lies below a cache: slower tiers, that take what gives way."""

    def take(self, prefix: Prefix, start: int, end: int) -> None:
        """Tokens `start` to `end` of an idle prefix are leaving the cache."""

    def computed(self, prefix: Prefix, start: int, end: int) -> None:
        """Tokens `start` to `end` of a prefix have come into the cache."""

    def drop(self, prefix: Prefix) -> None:
        """Nobody will ask for a prefix again."""

    def clear(self) -> None:
        """The replica has died."""


class KvCache:
    """Blocks of `block_size` tokens, `num_blocks` in all.

    used: blocks of the sequences in the batch and of the prefixes they rest on. idle: blocks of resident prefixes
    that nobody uses; the least recently used of them give way when room is needed. A block is whole or not shared:
    what a sequence adds to a prefix's last, partial block it computes into a block of its own (copy on write).

    Every decoding sequence grows by one token a step, so the step at which it next needs a block depends only on
    its phase, (tokens in cache - step counter) mod block_size, which never changes while it decodes. The counts
    by phase give the blocks that any number of further steps needs in O(block_size).
    """

    __slots__ = (
        "_idle", "_phases", "below", "block_size", "idle", "num_blocks", "num_decoding", "reserved", "used",
    )  # fmt: skip

    def __init__(self, block_size: int, num_blocks: int) -> None:
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.used = 0
        self.idle = 0
        self.reserved = 0
        self.num_decoding = 0
        self._phases = [0] * block_size
        #: Least recently used first, children before parents.
        self._idle: OrderedDict[Prefix, None] = OrderedDict()
        self.below: Below | None = None

    def blocks(self, tokens: int) -> int:
        """Return the blocks that `tokens` tokens occupy."""
        return -(-tokens // self.block_size)

    def allocate(self, held: int, tokens: int) -> bool:
        """Grow a prefilling sequence from `held` to `tokens` tokens; False, and no change, if there is no room."""
        size = self.block_size
        need = -(-tokens // size) - -(-held // size)
        if self.used + self.reserved + need > self.num_blocks:
            return False
        self.used += need
        if self.idle:
            self.evict()
        return True

    def free(self, tokens: int, shared: int = 0) -> None:
        """Give back the blocks of a sequence of `tokens` tokens, the first `shared` of which a prefix holds."""
        self.used -= self.blocks(tokens) - shared // self.block_size

    def start_decoding(self, tokens: int, counter: int) -> None:
        """Count a sequence with `tokens` tokens in cache that decodes from step `counter` on."""
        self._phases[(tokens - counter) % self.block_size] += 1
        self.num_decoding += 1

    def stop_decoding(self, tokens: int, counter: int) -> None:
        """Stop counting a decoding sequence, which has `tokens` tokens in cache at step `counter`."""
        self._phases[(tokens - counter) % self.block_size] -= 1
        self.num_decoding -= 1

    def growth(self, counter: int, num_steps: int) -> int:
        """Return the blocks that the decoding sequences need for steps counter .. counter + num_steps - 1."""
        size, phases = self.block_size, self._phases
        last = -counter % size  # needs a block in the first step; the phases before it in later ones
        if num_steps == 1:
            return phases[last]
        rounds, rest = divmod(num_steps, size)
        need = rounds * self.num_decoding
        first = last + 1 - rest
        if first >= 0:
            return need + sum(phases[first : last + 1])
        return need + sum(phases[: last + 1]) + sum(phases[first:])

    def steps_that_fit(self, counter: int, most: int, kept: int = 0) -> int:
        """Return the largest number of steps, at most `most`, for which there are free blocks beside `kept` others."""
        free = self.num_blocks - self.used - kept
        if self.num_decoding * (most // self.block_size + 1) <= free or self.growth(counter, most) <= free:
            return most
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            if self.growth(counter, middle) <= free:
                low = middle
            else:
                high = middle
        return low

    # ---- prefixes ----------------------------------------------------------------------------------------------

    def to_wake(self, prefix: Prefix | None) -> int:
        """Return the idle blocks that a sequence resting on `prefix` would put to use again."""
        need = 0
        while prefix is not None and prefix.users == 0:
            need += prefix.blocks
            prefix = prefix.parent
        return need

    def attach(self, prefix: Prefix | None) -> None:
        """Count a sequence of the batch that rests on a resident prefix."""
        while prefix is not None:
            prefix.users += 1
            if prefix.users > 1:
                return
            self.used += prefix.blocks
            self.idle -= prefix.blocks
            del self._idle[prefix]
            prefix = prefix.parent

    def detach(self, prefix: Prefix | None) -> None:
        """Count it no more; what nobody uses now is idle, or gone if it was dropped."""
        while prefix is not None:
            prefix.users -= 1
            if prefix.users:
                return
            parent = prefix.parent
            self.used -= prefix.blocks
            self.idle += prefix.blocks
            self._idle[prefix] = None
            if prefix.dropped and prefix.children == 0:
                self._remove(prefix)
            prefix = parent

    def publish(self, prefix: Prefix, tokens: int, users: int) -> None:
        """Make whole blocks up to `tokens` tokens, which a sequence of the batch computes, a resident prefix or part.

        With users=1 that sequence goes on resting on it: its blocks change hands. With 0 it ends: the prefix is idle,
        and the sequence's own blocks beyond its prefix are still to be freed.
        """
        parent = prefix.parent
        start = prefix.held if prefix.resident else prefix.start
        if self.below is not None and tokens > start and not prefix.dropped:
            self.below.computed(prefix, start, tokens)
        prefix.held = tokens
        prefix.blocks = (tokens - prefix.start) // self.block_size
        if prefix.resident:
            return
        prefix.resident = True
        prefix.users = users
        if parent is not None:
            parent.children += 1
        if users == 0:
            self.idle += prefix.blocks
            self._idle[prefix] = None
            if prefix.dropped:
                self._remove(prefix)

    def drop(self, prefix: Prefix) -> None:
        """Nobody will ask for this prefix again: free it as soon as no sequence and no other prefix rests on it."""
        prefix.dropped = True
        if self.below is not None:
            self.below.drop(prefix)
        if prefix.resident and prefix.users == 0 and prefix.children == 0:
            self._remove(prefix)

    def evict(self) -> None:
        """Let idle prefixes go, least recently used first and of each its end first, until all blocks fit."""
        while (over := self.used + self.idle - self.num_blocks) > 0:
            prefix = next(iter(self._idle))
            start, end = prefix.start, prefix.held
            keep = prefix.cut(end - over * self.block_size) if over < prefix.blocks else start
            if self.below is not None and end > start and not prefix.dropped:
                self.below.take(prefix, max(start, keep), end)
            if keep > start:
                prefix.held = keep
                blocks = (keep - start) // self.block_size
                self.idle += blocks - prefix.blocks
                prefix.blocks = blocks
            else:
                self._remove(prefix)

    def clear(self, in_use: Iterable[Prefix]) -> None:
        """Lose everything, as when the replica dies; `in_use` are the prefixes that its sequences rest on."""
        for prefix in (*in_use, *self._idle):
            at: Prefix | None = prefix
            while at is not None and at.resident:
                at.users = at.children = 0
                at.resident = False
                at = at.parent
        self._idle.clear()
        if self.below is not None:
            self.below.clear()
        self.used = self.idle = self.reserved = self.num_decoding = 0
        self._phases = [0] * self.block_size

    def _remove(self, prefix: Prefix | None) -> None:
        while prefix is not None:
            assert prefix.children == 0
            del self._idle[prefix]
            self.idle -= prefix.blocks
            prefix.resident = False
            prefix = prefix.parent
            if prefix is None:
                return
            prefix.children -= 1
            if not (prefix.dropped and prefix.users == 0 and prefix.children == 0):
                return
