"""The passes that make one step of a replica: those of its draft, where it has one, and the model's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clustersim.cost.model import CostModel
from clustersim.models.step import Numbers, StepShape, rank_shape

PhaseName = Literal["draft", "target"]


@dataclass(frozen=True)
class Phase:
    """`count` passes of one model, one after another, each of `shape`; arrays, where an entry may have no tokens."""

    name: PhaseName
    cost: CostModel
    shape: StepShape
    count: int = 1

    @property
    def present(self) -> Numbers:
        """1 where a pass has tokens, else 0."""
        return (rank_shape(self.shape, self.cost.parallelism).tokens > 0).astype(np.float64)

    @property
    def device_s(self) -> Numbers:
        """Time that the device works on all passes, pure decode replayed from captured graphs."""
        graph = self.cost.uses_graph(self.shape)
        return np.asarray(self.cost.device_s(self.shape, graph) * self.present * self.count)


def phases(cost: CostModel, shape: StepShape) -> list[Phase]:
    """Return the passes of a step in which each decoding sequence of `shape` (its queries aside) is one token further.

    With a speculation they are those of a step that verifies, which takes each sequence further. The draft prefills
    with the model; its first pass of a step may have several tokens a sequence (all of them are charged logits, an
    upper estimate), each other has one. The few drafts by which its context grows within a step are left out.
    """
    speculation = cost.speculation
    if speculation is None or speculation.num_draft_tokens == 0:
        return [Phase("target", cost, shape)]
    verify = Phase("target", cost, replace(shape, queries=speculation.queries))
    draft = speculation.at_work(cost.spec, cost.parallelism, cost.precision)
    if draft is None or cost.draft is None:
        return [verify]
    first = Phase("draft", cost.draft, replace(shape, queries=draft.first_queries))
    others = StepShape(shape.decode_seqs, shape.decode_context)
    more = speculation.num_draft_tokens - 1
    return [first, *([Phase("draft", cost.draft, others, more)] if more else []), verify]


def step_s(cost: CostModel, shape: StepShape, device_s: Numbers) -> Numbers:
    """Return the whole time of a step whose passes take `device_s` in all: with what the host adds."""
    rank = rank_shape(shape, cost.parallelism)
    seconds = cost.engine.step_s(device_s, rank.sequences)
    if cost.speculation is None or cost.speculation.num_draft_tokens == 0:
        return seconds
    return np.asarray(seconds + cost.speculation.sequence_host_s * rank.decode_seqs)
