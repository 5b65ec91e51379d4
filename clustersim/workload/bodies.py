"""Endless supplies of request lengths, independent of how many are taken at a time."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from clustersim.workload.arrays import IntArray
from clustersim.workload.lengths import RequestLengths, SampledLengths, split_output
from clustersim.workload.lengths.trace import TraceLengths
from clustersim.workload.traces import Trace

_BLOCK = 4096


class Bodies(Protocol):
    """A supply of lengths."""

    def draw(self, num: int) -> IntArray:
        """Return the next `num` requests (4, num): input, thinking, answer tokens; trace row or -1."""


def bodies_of(lengths: RequestLengths, rng: np.random.Generator, trace: Trace | None) -> Bodies:
    """Return the supply that `lengths` describes."""
    if isinstance(lengths, TraceLengths):
        assert trace is not None
        return _Recorded(lengths, rng, trace)
    assert isinstance(lengths, SampledLengths)
    return _Sampled(lengths, rng)


class _Sampled:
    """Lengths drawn in blocks of one size, so that redraws fall alike however many are taken at a time."""

    def __init__(self, lengths: SampledLengths, rng: np.random.Generator) -> None:
        self._lengths, self._rng = lengths, rng
        self._left: IntArray = np.empty((4, 0), dtype=np.int64)

    def draw(self, num: int) -> IntArray:
        blocks, held = [self._left], self._left.shape[1]
        while held < num:
            drawn = self._lengths.sample(self._rng, _BLOCK)
            blocks.append(np.stack([*drawn, np.full(_BLOCK, -1)]))
            held += _BLOCK
        everything = np.concatenate(blocks, axis=1)
        self._left = everything[:, num:]
        return everything[:, :num]


class _Recorded:
    """Rows of a trace."""

    def __init__(self, lengths: TraceLengths, rng: np.random.Generator, trace: Trace) -> None:
        self._lengths, self._trace = lengths, trace
        self._row_rng, self._share_rng = rng.spawn(2)
        self._num_drawn = 0

    def draw(self, num: int) -> IntArray:
        trace = self._trace
        rows = np.arange(self._num_drawn, self._num_drawn + num) % len(trace)
        self._num_drawn += num
        if self._lengths.order == "random":
            rows = np.floor(self._row_rng.random(num) * len(trace)).astype(np.int64)
        inputs, outputs = trace.input_tokens[rows], trace.output_tokens[rows]
        thinking = trace.thinking_tokens[rows]
        if self._lengths.thinking_share is not None:
            shares = self._lengths.thinking_share.sample(self._share_rng, num)
            _, thinking, _ = split_output(inputs, outputs, shares)
        return np.stack([inputs, thinking, outputs - thinking, rows])
