"""Device times of one model's passes, tabulated once from its cost model as piecewise-linear curves.

A pass is attention over the cached context of its decoding sequences, attention of its prefill chunks, and the
rest, whose operators depend on one number each: tokens of the rank, rows of logits, tokens of all data-parallel
ranks, keys that prefill reads (see `Op.varies`). Each of these sums is one curve.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil, log2

import numpy as np

from clustersim.cost.curve import Curve, Memo
from clustersim.cost.model import CostModel
from clustersim.cost.overlap import split
from clustersim.models.attention import PrefillKernel, attention_kernels
from clustersim.models.ops import Piece, Varies
from clustersim.models.step import Numbers, RankShape

#: Knots an octave. Operators are smooth between them; a test bounds what linear interpolation loses.
_PER_OCTAVE = 4
_BATCHES_AT_ONCE = 32
_PROMPTS_KEPT = 1 << 16
#: Measured kernels take a step in time where one more token needs another tile of 128; beyond 32 tiles one more is
#: less than 3 % of the work, and the knots of each octave do.
_TILES = 128 * np.arange(1, 33)


class PassTime:
    """Seconds that the device works on a pass with prefill in it, its decoding sequences of `queries` tokens each."""

    def __init__(self, cost: CostModel, max_context: int, queries: int = 1) -> None:
        self.cost = cost
        self.max_context = max_context
        self.queries = queries
        self._stages = cost.parallelism.pp
        self._splits = cost.parallelism.attention_dp * cost.parallelism.pp
        self._attention: dict[int, Curve] = {}
        self._single: dict[tuple[Varies, Piece | None], Curve] = {}
        self._corrections: dict[tuple[object, ...], float] = {}
        self._prompts: dict[tuple[int, float, float, int], float] = {}
        self._halves = cost.parallelism.two_batch_overlap
        self._launch = cost.device.kernel_launch_s.value

    def mixed(
        self, batch: int, context: int, tokens: int, pairs: int, keys: int, sequences: int, largest: int
    ) -> float:
        """Return the seconds of one pass that also prefills; arguments as in StepShape."""
        splits, stages, queries = self._splits, self._stages, self.queries
        share, seqs, prefill, prefills, replica_tokens = (
            1.0,
            batch,
            tokens,
            sequences,
            batch * queries + tokens,
        )
        if splits > 1:
            share = max(1.0 / splits, min(1.0, largest / tokens))
            seqs = -(-batch // splits)
            prefill = ceil(tokens * share)
            prefills = -(-sequences // splits)
            replica_tokens = -(-batch // stages) * queries + max(-(-tokens // stages), prefill)
        decode = seqs * queries
        prompts = (prefill, pairs * share, keys * share, prefills)
        prompts_s = self._prompts.get(prompts)
        if prompts_s is None:
            prompts_s = self._remember(prompts)
        by_tokens, by_rows, by_replica_tokens = self._memos
        device_s = (
            by_tokens[decode + prefill]
            + by_rows[decode + prefills]
            + by_replica_tokens[replica_tokens]
            + prompts_s
        )
        if seqs:
            device_s += self._decode_attention(seqs).at(context / splits)
        if not self._halves:
            return device_s
        halves_s = self._in_halves(
            seqs, context / splits, prefill, pairs * share, keys * share, prefills, replica_tokens
        )
        return min(device_s, halves_s)

    @cached_property
    def _memos(self) -> tuple[Memo, Memo, Memo]:
        return Memo(self._curve("tokens")), Memo(self._curve("rows")), Memo(self._curve("replica_tokens"))

    def _remember(self, prompts: tuple[int, float, float, int]) -> float:
        """Work out the seconds of what only prefill needs; steps with the same prompts are frequent."""
        queries, pairs, keys, sequences = prompts
        if len(self._prompts) >= _PROMPTS_KEPT:
            self._prompts.clear()
        seconds = self._curve("keys").at(keys) + self._prefill_s(
            float(queries), pairs, keys, float(sequences)
        )
        self._prompts[prompts] = seconds
        return seconds

    def _in_halves(
        self, seqs: int, context: float, prefill: int, pairs: float, keys: float, prefills: int, replica_tokens: int
    ) -> float:  # fmt: skip
        """Return the seconds of a rank's micro-batch in two halves, as `cost.overlap` has them."""
        few, chunk, prompts, others = (
            -(-number // 2) for number in (seqs, prefill, prefills, replica_tokens)
        )
        tokens, curve = few * self.queries + chunk, self._curve
        attention = (
            curve("tokens", "attention").at(tokens)
            + curve("keys", "attention").at(keys / 2)
            + self._prefill_s(float(chunk), pairs / 2, keys / 2, float(prompts))
        )
        if few:
            attention += self._decode_attention(few).at(context * few / seqs)
        pieces: dict[Piece, float] = {
            "attention": attention,
            "experts": curve("tokens", "experts").at(tokens) + curve("replica_tokens", "experts").at(others),
            "dispatch": curve("replica_tokens", "dispatch").at(others),
            "combine": curve("replica_tokens", "combine").at(others),
            "rest": curve("tokens", "rest").at(tokens)
            + curve("rows", "rest").at(few * self.queries + prompts),
        }
        return float(split(self.cost.spec, self.cost.parallelism, pieces, False).seconds)

    # ---- attention -------------------------------------------------------------------------------------------

    def _decode_attention(self, seqs: int) -> Curve:
        """Return the seconds of the decode attention of `seqs` sequences on one rank, outside a graph."""
        curve = self._attention.get(seqs)
        if curve is None:
            batches, context = grid(seqs, self.max_context)
            nothing = np.zeros_like(context, dtype=np.float64)
            rank = RankShape(batches[:, None] + nothing, context + nothing, *[nothing] * 6)
            rank = rank._replace(queries=np.full((), float(self.queries)))
            self._attention.update(curves(batches, context, self._total(rank, "decode")))
            curve = self._attention[seqs]
        return curve

    @cached_property
    def _kernels(self) -> list[tuple[PrefillKernel, float, float, float, float, float, float]]:
        """Prefill kernels with their seconds a FLOP, a byte, a step of depth and a task, overhead and smoothness."""
        cost = self.cost
        found = []
        for kernel in attention_kernels(cost.spec, cost.parallelism, cost.precision)[0]:
            fit, peak = cost.fit(kernel.family, kernel.dtype)
            bandwidth = cost.device.memory_bandwidth_bytes_per_s.value
            found.append((kernel, 1 / (peak * fit.compute_frac), 1 / (bandwidth * fit.memory_frac),
                          fit.span_s, fit.task_s, fit.overhead_s, fit.smoothness))  # fmt: skip
        return found

    def _prefill_s(self, queries: float, pairs: float, keys: float, sequences: float) -> float:
        """Return the seconds of prefill attention; the same law as `Fit.seconds`, on plain numbers."""
        total = 0.0
        for kernel, a_flop, a_byte, a_depth, a_task, overhead, p in self._kernels:
            flops, moved, depth, tasks = kernel.work(queries, pairs, keys, sequences)
            terms = (flops * a_flop, moved * a_byte, depth * a_depth, tasks * a_task)
            largest = max(terms)
            smooth = largest * sum((term / largest) ** p for term in terms) ** (1 / p) + overhead
            smooth *= self._correction(kernel, flops, moved, depth, tasks)
            total += kernel.layers * max(smooth, self._launch)
        return total

    def _correction(self, kernel: PrefillKernel, *work: float) -> float:
        """Return the factor of measured rows, looked up for work rounded to an eighth of an octave."""
        table = self.cost.table(kernel.family, kernel.dtype)
        if table is None:
            return 1.0
        key = (kernel.family, *(round(8 * log2(max(x, 1e-3))) for x in work))
        if key not in self._corrections:
            at = [2.0 ** (step / 8) for step in key[1:]]  # type: ignore[operator]  # numbers after the family
            self._corrections[key] = float(table.correct(*at).factor)
        return self._corrections[key]

    # ---- everything else -------------------------------------------------------------------------------------

    def _curve(self, varies: Varies, piece: Piece | None = None) -> Curve:
        """Return the seconds of the operators that depend on this number alone (of a piece), outside a graph."""
        curve = self._single.get((varies, piece))
        if curve is None:
            knots = np.unique(np.concatenate([[0], octaves(1, 1 << 24), _TILES, _TILES + 1]))
            numbers, nothing = knots.astype(np.float64), np.zeros(len(knots))
            field = {"keys": "prefill_keys"}.get(varies, varies)
            rank = RankShape(*[nothing] * 8)._replace(**{field: numbers})
            seconds = np.maximum.accumulate(self._total(rank, varies, piece))
            curve = self._single[varies, piece] = Curve(knots.tolist(), seconds.tolist())
        return curve

    def _total(self, rank: RankShape, varies: Varies, piece: Piece | None = None) -> Numbers:
        cost = self.cost
        total = np.zeros_like(rank.tokens)
        for op in cost.rank_ops(rank):
            if op.varies == varies and piece in (None, op.piece):
                total = total + op.count * cost.estimate(op, False).seconds
        return total


def grid(batch: int, max_context: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the block of batch sizes that holds `batch`, (n,), and knots of total context, (n, knots)."""
    first = (batch - 1) // _BATCHES_AT_ONCE * _BATCHES_AT_ONCE + 1
    batches = np.arange(first, first + _BATCHES_AT_ONCE)
    return batches, batches[:, None] * octaves(1, max_context)[None, :]


def curves(batches: np.ndarray, context: np.ndarray, seconds: Numbers) -> dict[int, Curve]:
    """Return a curve against context for each batch."""
    # Measured rows are noisy: where they say that more context takes less time, it takes as long.
    seconds = np.maximum.accumulate(seconds, axis=1)
    rows = zip(batches.tolist(), context.tolist(), seconds.tolist(), strict=True)
    return {batch: Curve(knots, values) for batch, knots, values in rows}


def octaves(low: int, high: int) -> np.ndarray:
    """Return integers from `low` to at least `high`, a fixed number an octave."""
    count = ceil(np.log2(max(2.0, high / low)) * _PER_OCTAVE) + 1
    return np.unique(np.round(np.geomspace(low, max(high, 2 * low), count)).astype(np.int64))
