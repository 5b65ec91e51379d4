"""System prompts, few-shot examples, tool descriptions: text that an application puts before every question."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from clustersim.kinds import register
from clustersim.workload.arrays import IntArray
from clustersim.workload.distributions import AnyDistribution, check_reach
from clustersim.workload.popularity import Exponent, Weights, pick, problem_with, shares_of
from clustersim.workload.prefix_kinds import SharedPrefixes, SharedTokens


@register("prefix")
class SharedSystemPrompt(SharedPrefixes):
    """Each request begins with one of `num_prompts` texts, in addition to the input tokens of its lengths.

    So vLLM's benchmark counts too (`--random-prefix-len`): with lengths from production, whose inputs have their
    system prompts in them, subtract these first.
    """

    kind: Literal["shared_system_prompt"] = "shared_system_prompt"
    num_prompts: PositiveInt = 1
    tokens: AnyDistribution
    """Length of each prompt, drawn once a prompt."""
    zipf_exponent: Exponent | None = None
    """The k-th most popular prompt is used k**-exponent as often as the first; 1 if not given, 0 for all alike.
    Assumed: no production statistics found."""
    weights: Weights | None = None
    """How often each is used, in place of Zipf's law."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the requests that begin with any of them."""
    examples: ClassVar = (
        {"tokens": 40},
        {"num_prompts": 3, "tokens": {"kind": "uniform", "low": 5, "high": 90}, "share": 0.7},
        {"num_prompts": 2, "tokens": 64, "weights": [3, 1]},
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_reach("tokens", self.tokens, 1)
        problem = problem_with(self.num_prompts, "prompts", self.zipf_exponent, self.weights)
        if problem is not None:
            raise ValueError(f"shared_system_prompt {problem}")
        return self

    def pieces(self, rng: np.random.Generator) -> SharedTokens:
        """See `SharedPrefixes.pieces`: a piece a prompt."""
        tokens = self.tokens.sample_counts(rng, self.num_prompts, 1)
        return SharedTokens(np.full(self.num_prompts, -1, dtype=np.int64), tokens)

    def draw(self, rng: np.random.Generator, num: int) -> IntArray:
        """See `SharedPrefixes.draw`."""
        uniform = rng.random(num)
        shares = shares_of(self.num_prompts, self.zipf_exponent, self.weights, 1.0)
        chosen = pick(shares, uniform / self.share)
        return np.where(uniform < self.share, chosen, -1)
