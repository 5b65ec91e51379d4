"""Two micro-batches: one half of a step communicates while the other computes.

A layer of experts has four pieces: attention A (with norms, router and projections), dispatch D, experts E, combine C.
Two halves, each with its own times of the pieces, pass a layer in four beats, in which one half's exchange runs beside
the other's computation:

    with prefill    max(A, D) + max(E, D) + max(E, C) + max(A, C)
    pure decode     max(2 A + 2 E, 2 D + 2 C): attention is cut in two steps, so that the beats can be evened out

where max(compute, exchange) is max(exchange, compute + f exchange), as the kernels of the exchange keep the share f of
the processors busy. What is in no such layer (dense layers, LM head, sampling) takes its time for both halves.
Source: deepseek-ai/open-infra-index, day 6, "computation-communication overlapping" (two batches in prefill, a
five-stage pipeline in decode). Each half has the efficiency of its own size: weights are read twice, and a half takes
as long as the larger. An engine splits above a threshold found by trial; here it splits where that is faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from clustersim.models.exchange import PROCESSORS_FRAC
from clustersim.models.layout import Parallelism
from clustersim.models.ops import Piece
from clustersim.models.spec import ModelSpec
from clustersim.models.step import Numbers, RankShape

#: Pieces that may run beside the computation of the other half.
EXCHANGES: frozenset[Piece] = frozenset({"dispatch", "combine"})
#: Seconds of one half by piece of the step.
Pieces = Mapping[Piece, Numbers] | Mapping[Piece, float]


class Split(NamedTuple):
    """A step in two halves: its seconds, and the share of its exchanges' time that nothing hides."""

    seconds: Numbers
    exposed_frac: Numbers


def half(rank: RankShape) -> RankShape:
    """Return the larger half of a rank's micro-batch.

    A prompt may be cut, so that attention is even; what the second half reads again of the first's keys is left out.
    """
    seqs = np.ceil(rank.decode_seqs / 2)
    share = seqs / np.maximum(rank.decode_seqs, 1)
    prefill = np.ceil(rank.prefill_tokens / 2)
    prompts = np.ceil((rank.rows - rank.decode_tokens) / 2)
    decode = seqs * rank.queries
    return RankShape(
        seqs, rank.decode_context * share, prefill, rank.prefill_pairs / 2, rank.prefill_keys / 2,
        decode + prompts, decode + prefill, np.ceil(rank.replica_tokens / 2), rank.queries,
    )  # fmt: skip


def split(spec: ModelSpec, parallelism: Parallelism, pieces: Pieces, decodes: ArrayLike) -> Split:
    """Return the time of a step whose halves take `pieces` each; `decodes` says where it is pure decode."""
    in_layers = len(spec.layers("moe")) / spec.num_layers
    frac = PROCESSORS_FRAC[parallelism.all_to_all]
    attention, experts = pieces["attention"] * in_layers, pieces["experts"]
    dispatch, combine = pieces["dispatch"], pieces["combine"]

    def beside(compute: ArrayLike, exchange: ArrayLike) -> Numbers:
        compute, exchange = np.asarray(compute), np.asarray(exchange)
        return np.asarray(np.maximum(exchange, compute + frac * exchange))

    beats = (
        beside(attention, dispatch) + beside(experts, dispatch)
        + beside(experts, combine) + beside(attention, combine)
    )  # fmt: skip
    even = beside(2 * (attention + experts), 2 * (dispatch + combine))
    apart = 2 * (pieces["rest"] + pieces["attention"] - attention)
    seconds = np.asarray(apart + np.where(decodes, even, beats))
    compute = 2 * (pieces["rest"] + pieces["attention"] + experts)
    exchange = 2 * (dispatch + combine)
    exposed = (seconds - compute) / np.where(exchange > 0, exchange, 1.0)
    return Split(seconds, np.clip(exposed, 0.0, 1.0))  # rounding alone leaves these limits
