"""Reinforcement learning after pretraining, in closed form: rollouts at serving's cost, updates at training's.

    iteration: rollout = prompts x samples x tokens      update = epochs x (prompt + rollout) tokens / tokens_per_s
               scoring = passes x (prompt + rollout) tokens / (3 tokens_per_s)

Scoring passes are forward only (a reference model's or old policy's log-probabilities): 2 of a training step's 6
FLOP a weight and token. What a rollout token costs is given, from a simulation of serving: this piece knows no
queues, no stragglers and no transfer of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from clustersim.kinds import Value
from clustersim.models.spec import Count, NonNegative
from clustersim.training.step import TrainingStep

_FORWARD_FRAC = 1 / 3
Positive = Annotated[float, Field(gt=0)]


class PostTraining(Value):
    """What is sampled and trained in each iteration."""

    num_iterations: Count
    num_prompts: Count
    """In an iteration."""
    samples: Count
    """Rollouts of a prompt (GRPO's group size)."""
    prompt_tokens: Positive
    """Of the mean prompt."""
    rollout_tokens: Positive
    """Of the mean rollout."""
    epochs: Count = 1
    """Times that each rollout is trained on."""
    scoring_passes: NonNegative = 1
    """Forward passes over the rollouts beside training: 1 for a reference model."""
    placement: Literal["colocated", "separate"] = "colocated"
    """`colocated`: one fleet rolls out and trains in turn. `separate`: two fleets at once, asynchronously; an iteration
    takes as long as the slower, and the trainer is paid while it waits."""


@dataclass(frozen=True)
class PostTrainingRun:
    """What a post-training takes."""

    rollout_tokens: float
    """Generated in all."""
    trained_tokens: float
    """Trained on in all, repeats counted."""
    rollout_s: float
    update_s: float
    """Scoring in it."""
    duration_s: float
    rollout_usd: float
    update_usd: float

    @property
    def usd(self) -> float:
        """All dollars."""
        return self.rollout_usd + self.update_usd


def post_training(
    given: PostTraining,
    step: TrainingStep,
    *,
    usd_per_rollout_token: float,
    s_per_rollout_token: float,
    trainer_usd_per_s: float,
) -> PostTrainingRun:
    """Return what a post-training takes.

    `s_per_rollout_token` is the inverse of the rollout fleet's throughput, not a token's latency;
    `trainer_usd_per_s` the price of all accelerators of `step`.
    """
    rollouts = given.num_iterations * given.num_prompts * given.samples
    generated = rollouts * given.rollout_tokens
    seen = rollouts * (given.prompt_tokens + given.rollout_tokens)
    rollout_s = generated * s_per_rollout_token
    update_s = (given.epochs + given.scoring_passes * _FORWARD_FRAC) * seen / step.tokens_per_s
    separate = given.placement == "separate"
    duration_s = max(rollout_s, update_s) if separate else rollout_s + update_s
    paid_s = duration_s if separate else update_s
    return PostTrainingRun(
        generated, given.epochs * seen, rollout_s, update_s, duration_s, generated * usd_per_rollout_token,
        paid_s * trainer_usd_per_s,
    )  # fmt: skip
