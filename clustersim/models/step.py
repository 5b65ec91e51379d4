"""The shape of one engine step, whole and as one micro-batch on its heaviest rank sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clustersim.models.layout import Parallelism

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class StepShape:
    """One engine step of a replica, all ranks together; fields may be arrays that broadcast (many steps at once).

    decode_seqs sequences process `queries` tokens each (1; more where a step verifies drafts of a speculation), the
    first of which attend to decode_context tokens in all, themselves included. Beside them num_prefills sequences
    process prefill_tokens tokens, with prefill_pairs query-key pairs and prefill_keys keys read; largest_chunk is the
    longest of these chunks.
    """

    decode_seqs: ArrayLike = 0
    decode_context: ArrayLike = 0
    prefill_tokens: ArrayLike = 0
    prefill_pairs: ArrayLike = 0
    prefill_keys: ArrayLike = 0
    num_prefills: ArrayLike = 0
    largest_chunk: ArrayLike = 0
    queries: ArrayLike = 1

    @classmethod
    def prefill(cls, tokens: int, past: int = 0) -> StepShape:
        """Return a step that prefills `tokens` tokens of one sequence after `past` cached ones."""
        pairs = tokens * past + tokens * (tokens + 1) // 2
        return cls(0, 0, tokens, pairs, past + tokens, 1, tokens)

    @classmethod
    def decode(cls, batch: int, context: int, queries: int = 1) -> StepShape:
        """Return a step in which `batch` sequences decode over `context` tokens each, `queries` tokens at once."""
        return cls(batch, batch * context, queries=queries)


class RankShape(NamedTuple):
    """What the busiest rank of a pipeline stage works on in one micro-batch; arrays of one shape.

    Attention data parallelism splits sequences evenly (rounded up) over its ranks; a pipeline splits a step into
    as many micro-batches as stages, but no chunk of a prompt in two. `replica_tokens` are the tokens of the
    micro-batch on all data-parallel ranks, which expert layers see together. `rows` are rows of logits: one for each
    query of a decoding sequence, one for a prompt.
    """

    decode_seqs: Numbers
    decode_context: Numbers
    prefill_tokens: Numbers
    prefill_pairs: Numbers
    prefill_keys: Numbers
    rows: Numbers
    tokens: Numbers
    replica_tokens: Numbers
    queries: Numbers = np.ones(())

    @property
    def decode_tokens(self) -> Numbers:
        """Tokens of the decoding sequences."""
        return self.decode_seqs * self.queries

    @property
    def sequences(self) -> Numbers:
        """Sequences that decode or prefill."""
        return self.rows - self.decode_seqs * (self.queries - 1)


def rank_shape(shape: StepShape, parallelism: Parallelism) -> RankShape:
    """Return the shape that the busiest rank sees; see RankShape."""
    seqs, context, tokens, pairs, keys, prefills, largest, queries = np.broadcast_arrays(
        *(np.asarray(value, dtype=np.float64) for value in vars(shape).values())
    )
    ranks, stages = parallelism.attention_dp, parallelism.pp
    splits = ranks * stages
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(tokens > 0, np.maximum(1 / splits, np.minimum(1.0, largest / tokens)), 0.0)
    decode = np.ceil(seqs / splits)
    prefill = np.ceil(tokens * share)
    in_micro_batch = np.ceil(seqs / stages) * queries + np.maximum(np.ceil(tokens / stages), prefill)
    return RankShape(
        decode,
        np.where(seqs > 0, context / splits, 0.0),
        prefill,
        pairs * share,
        keys * share,
        decode * queries + np.ceil(prefills / splits),
        decode * queries + prefill,
        in_micro_batch,
        queries,
    )
