"""Outputs of which a share is thinking."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from clustersim.kinds import register
from clustersim.workload.distributions import AnyDistribution, check_reach
from clustersim.workload.lengths import Lengths, SampledLengths, split_output


@register("lengths")
class OutputWithThinkingShare(SampledLengths):
    """Input, output and the share of the output that is thinking, drawn independently of one another.

    Thinking is min(round(share * output), output - 1): the last token belongs to the answer. This is the
    form in which production statistics publish reasoning traffic (ServeGen, arXiv:2505.09999).
    """

    examples: ClassVar = (
        {
            "kind": "output_with_thinking_share",
            "input": {"kind": "lognormal", "median": 208, "p99": 23400},
            "output": {"kind": "quantiles", "table": {"0": 20, "0.5": 792, "0.99": 12600, "1": 32768}},
            "thinking_share": {"kind": "quantiles", "table": {"0": 0, "0.5": 0.76, "1": 0.998}},
        },
    )

    kind: Literal["output_with_thinking_share"] = "output_with_thinking_share"
    input: AnyDistribution
    output: AnyDistribution
    thinking_share: AnyDistribution

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        check_reach("input", self.input, 1)
        check_reach("output", self.output, 1)
        check_reach("thinking_share", self.thinking_share, 0, 1)
        return self

    def sample(self, rng: np.random.Generator, num: int) -> Lengths:
        """See `SampledLengths.sample`."""
        return split_output(
            self.input.sample_counts(rng, num, 1),
            self.output.sample_counts(rng, num, 1),
            self.thinking_share.sample(rng, num),
        )
