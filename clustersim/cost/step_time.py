"""Step times of a deployment, tabulated once from its cost model as piecewise-linear curves.

A step is attention over the cached context of its decoding sequences, attention of its prefill chunks, and the
rest, whose operators depend on one number each: tokens of the rank, rows of logits, tokens of all data-parallel
ranks, keys that prefill reads (see `Op.varies`). Each of these sums is one curve.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil, log2

import numpy as np

from clustersim.cost.curve import Curve
from clustersim.cost.model import CostModel
from clustersim.models.attention import PrefillKernel, attention_kernels
from clustersim.models.ops import Varies, rank_ops
from clustersim.models.step import Numbers, RankShape, StepShape

#: Knots an octave. Operators are smooth between them; a test bounds what linear interpolation loses.
_PER_OCTAVE = 4
_BATCHES_AT_ONCE = 32


class StepTime:
    """Seconds of a step against what is in it; curves are made when first asked for."""

    def __init__(self, cost: CostModel, max_context: int) -> None:
        self.cost = cost
        self.max_context = max_context
        self._stages = cost.parallelism.pp
        self._splits = cost.parallelism.attention_dp * cost.parallelism.pp
        self._decode: dict[int, Curve] = {}
        self._attention: dict[int, Curve] = {}
        self._single: dict[Varies, Curve] = {}
        self._corrections: dict[tuple[object, ...], float] = {}
        engine, device = cost.engine, cost.device
        self._step_host = engine.step_overhead_s.value
        self._seq_host = engine.sequence_overhead_s.value
        self._overlapped = engine.overlapped
        self._launch = device.kernel_launch_s.value

    def decode(self, batch: int) -> Curve:
        """Return the seconds of a decode step of `batch` sequences against their total context in tokens."""
        curve = self._decode.get(batch)
        if curve is None:
            batches, context = self._grid(batch)
            shape = StepShape(batches[:, None], context)
            graph = self.cost.uses_graph(shape)
            seconds = np.where(graph, self.cost.step_s(shape, True), self.cost.step_s(shape, False))
            self._decode.update(_curves(batches, context, seconds))
            curve = self._decode[batch]
        return curve

    def mixed(
        self, batch: int, context: int, tokens: int, pairs: int, keys: int, sequences: int, largest: int
    ) -> float:
        """Return the seconds of one step that also prefills; arguments as in StepShape."""
        splits, stages = self._splits, self._stages
        share = max(1.0 / splits, min(1.0, largest / tokens))
        seqs = -(-batch // splits)
        prefill = ceil(tokens * share)
        prefills = -(-sequences // splits)
        replica_tokens = -(-batch // stages) + max(-(-tokens // stages), prefill)
        curve = self._curve
        device_s = (
            curve("tokens").at(seqs + prefill)
            + curve("rows").at(seqs + prefills)
            + curve("replica_tokens").at(replica_tokens)
            + curve("keys").at(keys * share)
            + self._prefill_s(float(prefill), pairs * share, keys * share, float(prefills))
        )
        if seqs:
            device_s += self._decode_attention(seqs).at(context / splits)
        host_s = self._step_host + self._seq_host * (seqs + prefills)
        return max(device_s, host_s) if self._overlapped else device_s + host_s

    # ---- attention -------------------------------------------------------------------------------------------

    def _decode_attention(self, seqs: int) -> Curve:
        """Return the seconds of the decode attention of `seqs` sequences on one rank, outside a graph."""
        curve = self._attention.get(seqs)
        if curve is None:
            batches, context = self._grid(seqs)
            nothing = np.zeros_like(context, dtype=np.float64)
            rank = RankShape(batches[:, None] + nothing, context + nothing, *[nothing] * 6)
            self._attention.update(_curves(batches, context, self._total(rank, "decode")))
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

    def _curve(self, varies: Varies) -> Curve:
        """Return the seconds of the operators that depend on this number alone, outside a graph."""
        curve = self._single.get(varies)
        if curve is None:
            knots = np.concatenate([[0], _octaves(1, 1 << 24)])
            numbers, nothing = knots.astype(np.float64), np.zeros(len(knots))
            field = {"keys": "prefill_keys"}.get(varies, varies)
            rank = RankShape(*[nothing] * 8)._replace(**{field: numbers})
            curve = self._single[varies] = Curve(
                knots.tolist(), np.maximum.accumulate(self._total(rank, varies)).tolist()
            )
        return curve

    def _total(self, rank: RankShape, varies: Varies) -> Numbers:
        cost = self.cost
        total = np.zeros_like(rank.tokens)
        for op in rank_ops(cost.spec, cost.parallelism, cost.precision, rank, cost.imbalance):
            if op.varies == varies:
                total = total + op.count * cost.estimate(op, False).seconds
        return total

    def _grid(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the block of batch sizes that holds `batch`, (n,), and knots of total context, (n, knots)."""
        first = (batch - 1) // _BATCHES_AT_ONCE * _BATCHES_AT_ONCE + 1
        batches = np.arange(first, first + _BATCHES_AT_ONCE)
        return batches, batches[:, None] * _octaves(1, self.max_context)[None, :]


def _curves(batches: np.ndarray, context: np.ndarray, seconds: Numbers) -> dict[int, Curve]:
    # Measured rows are noisy: where they say that more context takes less time, it takes as long.
    seconds = np.maximum.accumulate(seconds, axis=1)
    rows = zip(batches.tolist(), context.tolist(), seconds.tolist(), strict=True)
    return {batch: Curve(knots, values) for batch, knots, values in rows}


def _octaves(low: int, high: int) -> np.ndarray:
    """Return integers from `low` to at least `high`, a fixed number an octave."""
    count = ceil(np.log2(max(2.0, high / low)) * _PER_OCTAVE) + 1
    return np.unique(np.round(np.geomspace(low, max(high, 2 * low), count)).astype(np.int64))
