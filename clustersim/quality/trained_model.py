"""A trained model as the quality model sees it: family, training compute, and whether it was taught to reason."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from clustersim.kinds import Value
from clustersim.quality.ranged import Ranged
from clustersim.quality.scaling import EPOCH_REFIT, ScalingLaw
from clustersim.quality.shelf import load
from clustersim.units import Quantity

Flops = Annotated[float, Quantity("FLOP", "3.8e25 FLOP", positive=True)]


class TrainedModel(Value):
    """A model with the compute of its pre-training: parameters, tokens and year, or the effective compute itself."""

    name: str
    description: str = ""
    family: str
    """Models of one pre-training recipe and data; only within a family does one model say much of another."""
    reasoning_trained: bool
    """Whether reinforcement learning, or distillation from such a model, taught it to think before it answers."""
    year: Annotated[int, Field(ge=2018, le=2040)]
    """The year of its pre-training, from which algorithmic progress is counted."""
    parameters: Ranged[float] | None = None
    """Active parameters, as the scaling law counts them; for a mixture of experts say the same of all models."""
    train_tokens: Ranged[float] | None = None
    effective_compute_flops: Ranged[Flops] | None = None
    """In place of both, where they were not published; FLOP of a compute-optimal model of 2024."""

    @model_validator(mode="after")
    def _determined(self) -> Self:
        given = (self.parameters is not None, self.train_tokens is not None)
        if given not in ((True, True), (False, False)) or given[0] == (
            self.effective_compute_flops is not None
        ):
            raise PydanticCustomError(
                "compute", 'give both "parameters" and "train_tokens", or "effective_compute" alone'
            )
        return self

    def effective_flops(self, progress_per_year: float, law: ScalingLaw = EPOCH_REFIT) -> float:
        """Return the compute, FLOP, of a compute-optimal model of 2024 with the same loss."""
        if self.effective_compute_flops is not None:
            return self.effective_compute_flops.value
        assert self.parameters is not None
        assert self.train_tokens is not None
        flops = law.effective_flops(
            self.parameters.value, self.train_tokens.value, self.year, progress_per_year
        )
        return float(flops.item())


def load_trained_model(name: str) -> TrainedModel:
    """Return a built-in trained model; raises InputError with the nearest names."""
    return load("trained_models", TrainedModel, name)
