"""A benchmark: its size and bounds, and the published points that anchor predictions on it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from clustersim.errors import InputError
from clustersim.kinds import Value
from clustersim.quality.ranged import Ranged
from clustersim.quality.shelf import load
from clustersim.quality.trained_model import TrainedModel, load_trained_model


class Anchor(Value):
    """One known point: the accuracy of a model's single samples, and how long it thought."""

    model: TrainedModel
    """A name of the shelf `trained_models`, or everything written out."""
    accuracy: Ranged[float]
    thinking_tokens: Ranged[float]
    """Mean serial tokens of a sample; taken as the model's natural length on this benchmark."""

    @field_validator("model", mode="before")
    @classmethod
    def _named(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        try:
            return load_trained_model(given)
        except InputError as error:
            raise PydanticCustomError("model", str(error).replace("{", "(").replace("}", ")")) from None

    @model_validator(mode="after")
    def _thinks(self) -> Self:
        if self.thinking_tokens.low <= 0:
            raise PydanticCustomError("anchor", "thinking_tokens must be above 0 over its whole range")
        return self


class Benchmark(Value):
    """A set of problems with one right answer each, and what is known of models on it."""

    name: str
    description: str
    num_problems: Annotated[int, Field(ge=1)]
    floor: Ranged[float]
    """Accuracy of guessing."""
    cap: Ranged[float]
    """The best that can be reached, wrong labels and unsolvable problems considered."""
    thinking_sigma: Ranged[float]
    """Standard deviation of ln(thinking tokens) over samples of all problems."""
    anchors: Annotated[tuple[Anchor, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not 0.0 <= self.floor.low <= self.floor.high < self.cap.low <= self.cap.high <= 1.0:
            raise PydanticCustomError("bounds", "0 <= floor < cap <= 1 must hold over their whole ranges")
        for anchor in self.anchors:
            if not self.floor.high < anchor.accuracy.low <= anchor.accuracy.high < self.cap.low:
                raise PydanticCustomError(
                    "bounds", f"the accuracy of {anchor.model.name} must lie between floor and cap, ranges included"
                )  # fmt: skip
        names = [anchor.model.name for anchor in self.anchors]
        if len(set(names)) < len(names):
            raise PydanticCustomError("anchors", "one anchor a model")
        return self

    @property
    def families(self) -> tuple[str, ...]:
        """Return the families that are anchored here, in order."""
        return tuple(dict.fromkeys(anchor.model.family for anchor in self.anchors))


def load_benchmark(name: str) -> Benchmark:
    """Return a built-in benchmark; raises InputError with the nearest names."""
    return load("benchmarks", Benchmark, name)
