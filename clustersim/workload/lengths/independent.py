"""Lengths drawn apart from one another."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from clustersim.kinds import register
from clustersim.workload.distributions import AnyDistribution, check_reach
from clustersim.workload.distributions.fixed import Fixed
from clustersim.workload.lengths import Lengths, SampledLengths


@register("lengths")
class IndependentLengths(SampledLengths):
    """Input, thinking and answer, each from its own distribution, rounded to the nearest token.

    An input or answer that rounds to no token is drawn again.
    """

    examples: ClassVar = (
        {"kind": "independent", "input": 1024, "answer": {"kind": "uniform", "low": 100, "high": 900}},
        {
            "kind": "independent",
            "input": {"kind": "lognormal", "median": 208, "p99": 23400},
            "thinking": {"kind": "quantiles", "table": {"0": 0, "0.5": 500, "1": 32000}},
            "answer": {"kind": "lognormal", "mean": 400, "cv": 1},
        },
    )

    kind: Literal["independent"] = "independent"
    input: AnyDistribution
    thinking: AnyDistribution = Fixed(value=0)
    answer: AnyDistribution

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        check_reach("input", self.input, 1)
        check_reach("thinking", self.thinking, 0)
        check_reach("answer", self.answer, 1)
        return self

    def sample(self, rng: np.random.Generator, num: int) -> Lengths:
        """See `SampledLengths.sample`."""
        return Lengths(
            self.input.sample_counts(rng, num, 1),
            self.thinking.sample_counts(rng, num, 0),
            self.answer.sample_counts(rng, num, 1),
        )
