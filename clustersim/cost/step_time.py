"""Step times of a deployment: what a replica asks for to advance its sequences by a token each.

Where a speculation drafts, a step is the passes of its draft and one of the model, and gives E tokens a sequence in the
mean (`Speculation.tokens_per_step`). A replica counts tokens, so it is told the time of a token: a step over E.
"""

from __future__ import annotations

import numpy as np

from clustersim.cost.curve import Curve
from clustersim.cost.model import CostModel
from clustersim.cost.pass_time import PassTime, curves, grid
from clustersim.cost.phases import phases, step_s
from clustersim.models.step import StepShape


class StepTime:
    """Seconds of a token of every decoding sequence against what is in a step; curves are made when first asked for.

    Mean field: all sequences advance alike, E tokens a step, so that times within a step are means. A step with prefill
    in it is charged in full, less what its E - 1 further tokens will be charged as tokens of pure decode steps, but
    never less than without the decoding sequences.
    """

    def __init__(self, cost: CostModel, max_context: int) -> None:
        self.cost = cost
        self.max_context = max_context
        speculation = cost.speculation
        self.tokens_per_step = 1.0 if speculation is None else speculation.tokens_per_step
        self._splits = cost.parallelism.attention_dp * cost.parallelism.pp
        self._decode: dict[int, Curve] = {}
        self._draft: dict[int, Curve] = {}
        target, first, more = _passes(cost)
        self._target = PassTime(cost, max_context, target)
        self._first = PassTime(cost.draft, max_context, first) if cost.draft else None
        self._more = more
        engine = cost.engine
        self._step_host = engine.step_overhead_s.value
        self._seq_host = engine.sequence_overhead_s.value
        self._draft_host = speculation.sequence_host_s if speculation and target > 1 else 0.0
        self._overlapped = engine.overlapped

    def decode(self, batch: int) -> Curve:
        """Return the seconds of a token of each of `batch` sequences against their total context in tokens."""
        curve = self._decode.get(batch)
        if curve is None:
            batches, context = grid(batch, self.max_context)
            shape = StepShape(batches[:, None], context)
            device_s = sum((phase.device_s for phase in phases(self.cost, shape)), np.zeros(()))
            seconds = step_s(self.cost, shape, device_s) / self.tokens_per_step
            self._decode.update(curves(batches, context, seconds))
            curve = self._decode[batch]
        return curve

    def mixed(
        self, batch: int, context: int, tokens: int, pairs: int, keys: int, sequences: int, largest: int
    ) -> float:
        """Return the seconds of one step that also prefills; arguments as in StepShape."""
        whole = self._mixed(batch, context, tokens, pairs, keys, sequences, largest)
        further = self.tokens_per_step - 1.0
        if further == 0 or batch == 0:
            return whole
        alone = self._mixed(0, 0, tokens, pairs, keys, sequences, largest)
        return max(alone, whole - further * self.decode(batch).at(context))

    def _mixed(
        self, batch: int, context: int, tokens: int, pairs: int, keys: int, sequences: int, largest: int
    ) -> float:
        device_s = self._target.mixed(batch, context, tokens, pairs, keys, sequences, largest)
        if self._first is not None:
            device_s += self._first.mixed(batch, context, tokens, pairs, keys, sequences, largest)
            if self._more and batch:
                device_s += self._later_drafts(batch).at(context)
        seqs = -(-batch // self._splits)
        host_s = self._step_host + self._seq_host * (seqs - (-sequences // self._splits))
        step = max(device_s, host_s) if self._overlapped else device_s + host_s
        return step + self._draft_host * seqs

    def _later_drafts(self, batch: int) -> Curve:
        """Return the seconds that the device works on the draft's passes after its first, against total context."""
        curve = self._draft.get(batch)
        if curve is None:
            batches, context = grid(batch, self.max_context)
            _, later, _ = phases(self.cost, StepShape(batches[:, None], context))
            self._draft.update(curves(batches, context, later.device_s))
            curve = self._draft[batch]
        return curve


def _passes(cost: CostModel) -> tuple[int, int, int]:
    """Return the tokens a sequence in the model's pass and in the draft's first, and how many more the draft makes."""
    made = phases(cost, StepShape())
    queries = [int(np.asarray(phase.shape.queries)) for phase in made]
    return queries[-1], queries[0], made[1].count if len(made) == 3 else 0
