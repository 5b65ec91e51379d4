"""The oracle: one timeout a step, every sequence counted anew each time. Slow and plain, to test the runs against."""

from __future__ import annotations

from clustersim.serving.kv_cache import Prefix
from clustersim.serving.replica import Replica


class StepwiseReplica(Replica):
    """A replica that takes one step at a time and recounts context and KV blocks from its sequences."""

    def _growth(self, steps: int = 1) -> int:
        size = self.kv.block_size
        tokens = [offset + self.counter for offset in self._offsets.values()]
        return sum(-(-(held + steps) // size) - -(-held // size) for held in tokens)

    def _steps_ahead(self) -> int:
        return 1

    _recounts = True

    def _recount(self, steps: int) -> None:
        assert steps == (0 if self.stalled else 1)
        decoding = [offset + self.counter for offset in self._offsets.values()]
        assert self.context == sum(tokens + 1 for tokens in decoding)
        apart = {**self.computed, **self.loading, **self.held}
        held = decoding + list(apart.values())
        rests = [self.sharing.rests(request) for request in (*self._offsets, *apart)]
        shared: set[Prefix] = set()
        for deepest in rests:
            prefix = deepest
            while prefix is not None:
                shared.add(prefix)
                prefix = prefix.parent
        size = self.kv.block_size
        own = sum(
            -(-tokens // size) - (at.held // size if at else 0)
            for tokens, at in zip(held, rests, strict=True)
        )
        assert self.kv.used == own + sum(prefix.blocks for prefix in shared)
        assert self.kv.used + self.kv.idle <= self.kv.num_blocks
        assert all(at.parent is None or at.parent.held == at.parent.tokens for at in shared)
        assert all(finish >= self.counter for finish in self.running.values() if finish)
