"""Paged KV cache of one replica: blocks counted, never listed."""

from __future__ import annotations


class KvCache:
    """Blocks of `block_size` tokens, `num_blocks` in all.

    Every decoding sequence grows by one token a step, so the step at which it next needs a block depends only on
    its phase, (tokens in cache - step counter) mod block_size, which never changes while it decodes. The counts
    by phase give the blocks that any number of further steps needs in O(block_size).
    """

    __slots__ = ("_phases", "block_size", "num_blocks", "num_decoding", "reserved", "used")

    def __init__(self, block_size: int, num_blocks: int) -> None:
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.used = 0
        self.reserved = 0
        self.num_decoding = 0
        self._phases = [0] * block_size

    def blocks(self, tokens: int) -> int:
        """Return the blocks that `tokens` tokens occupy."""
        return -(-tokens // self.block_size)

    def allocate(self, held: int, tokens: int) -> bool:
        """Grow a prefilling sequence from `held` to `tokens` tokens; False, and no change, if there is no room."""
        need = self.blocks(tokens) - self.blocks(held)
        if self.used + self.reserved + need > self.num_blocks:
            return False
        self.used += need
        return True

    def free(self, tokens: int) -> None:
        """Give back the blocks of a sequence of `tokens` tokens."""
        self.used -= self.blocks(tokens)

    def start_decoding(self, tokens: int, counter: int) -> None:
        """Count a sequence with `tokens` tokens in cache that decodes from step `counter` on."""
        self._phases[(tokens - counter) % self.block_size] += 1
        self.num_decoding += 1

    def stop_decoding(self, tokens: int, counter: int) -> None:
        """Stop counting a decoding sequence, which has `tokens` tokens at step `counter`, and free its blocks."""
        self._phases[(tokens - counter) % self.block_size] -= 1
        self.num_decoding -= 1
        self.free(tokens)

    def growth(self, counter: int, num_steps: int) -> int:
        """Return the blocks that the decoding sequences need for steps counter .. counter + num_steps - 1."""
        size = self.block_size
        rounds, rest = divmod(num_steps, size)
        need = rounds * self.num_decoding
        phases = self._phases
        for step in range(counter, counter + rest):
            need += phases[-step % size]
        return need

    def steps_that_fit(self, counter: int, most: int) -> int:
        """Return the largest number of steps, at most `most`, for which there are free blocks."""
        free = self.num_blocks - self.used
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
