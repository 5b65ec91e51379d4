"""The oracle: one timeout a step, every sequence counted anew each time. Slow and plain, to test the runs against."""

from __future__ import annotations

from clustersim.serving.replica import Replica


class StepwiseReplica(Replica):
    """A replica that takes one step at a time and recounts context and KV blocks from its sequences."""

    def _growth(self, steps: int = 1) -> int:
        size = self.kv.block_size
        tokens = [offset + self.counter for offset in self._offsets.values()]
        return sum(-(-(held + steps) // size) - -(-held // size) for held in tokens)

    def _steps_ahead(self) -> int:
        return 1

    def _tick(self, steps: int) -> None:
        assert steps == 1
        decoding = [offset + self.counter for offset in self._offsets.values()]
        assert self.context == sum(tokens + 1 for tokens in decoding)
        held = decoding + list(self.computed.values())
        assert self.kv.used == sum(-(-tokens // self.kv.block_size) for tokens in held)
        assert all(finish >= self.counter for finish in self.running.values() if finish)
