"""How long requests are: prompt, thinking and answer, in tokens. One file a kind."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from clustersim.kinds import Part
from clustersim.workload.arrays import FloatArray, IntArray


class Lengths(NamedTuple):
    """Token counts of n requests, each (n,); thinking and answer together are the output."""

    input_tokens: IntArray
    thinking_tokens: IntArray
    answer_tokens: IntArray

    @property
    def output_tokens(self) -> IntArray:
        """Return thinking + answer (n,)."""
        return self.thinking_tokens + self.answer_tokens


class RequestLengths(Part):
    """The token counts of the requests of a workload."""

    examples: ClassVar[tuple[dict[str, Any], ...]] = ()


class SampledLengths(RequestLengths):
    """Token counts drawn at random, each request for itself."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, num: int) -> Lengths:
        """Return the lengths of `num` requests; input and answer have one token at least."""


def split_output(input_tokens: IntArray, output_tokens: IntArray, thinking_share: FloatArray) -> Lengths:
    """Split output (n,) by the share of it (n,) that is thinking, to the nearest token.

    The last token of an output always belongs to the answer: thinking = min(round(share * output), output
    - 1).
    """
    thinking = np.minimum(np.rint(thinking_share * output_tokens).astype(np.int64), output_tokens - 1)
    return Lengths(input_tokens, thinking, output_tokens - thinking)
