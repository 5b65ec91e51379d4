"""What a tradeoff study asks: a target, a demand, an SLO, and what may be bought for them. Read from YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from clustersim.cost.host import ServingEngineRef
from clustersim.economics.prices import Price
from clustersim.errors import InputError, Problem
from clustersim.hardware.node import NodeRef
from clustersim.hardware.site import SiteRef
from clustersim.kinds import OneOf, Value
from clustersim.models.precision import Precision
from clustersim.models.spec import Count
from clustersim.quality.benchmark import load_benchmark
from clustersim.quality.parameters import Parameters
from clustersim.quality.solver import solver
from clustersim.quality.trained_model import load_trained_model
from clustersim.scenario.schema import Name
from clustersim.scenario.settings import apply_setting
from clustersim.scenario.sources import read
from clustersim.training.layout import PUBLISHED_SLOWDOWN
from clustersim.training.post_training import PostTraining
from clustersim.units import PositiveSeconds
from clustersim.workload.strategies import AnyStrategy
from clustersim.workload.strategies.best_of_n import BestOfN
from clustersim.workload.strategies.chain_of_thought import ChainOfThought
from clustersim.workload.strategies.vote import Vote
from clustersim.workload.workload import Slo
from clustersim.yaml_file import problems_of

Positive = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[float, Field(ge=1)]


class Span(Value):
    """A factor that is not known: drawn from a triangle over [low, high] with its mode at 1."""

    low: Annotated[float, Field(gt=0, le=1)]
    high: AtLeastOne


class Target(Value):
    """The quality that every plan must reach."""

    benchmark: str
    """Whose problems stand for the queries; see `clustersim list benchmarks`."""
    like: str
    """The trained model whose recipe is followed: its anchor ties accuracy to compute and thinking."""
    accuracy: Annotated[float, Field(gt=0, lt=1)]
    year: Annotated[int, Field(ge=2018, le=2040)]
    """Of the pretraining: algorithms have improved since the anchor's."""
    anchor_sparsity: AtLeastOne = 1.0
    """All weights over active ones of `like` (DeepSeek-R1: 18; dense: 1): anchors count active weights."""
    parameters: Parameters = Parameters()
    """Numbers of the quality model that are held; those not given are drawn over their ranges."""


class Demand(Value):
    """Queries over the years of service, and what one looks like."""

    queries_per_day: Positive
    """In the mean over the first year."""
    years: Annotated[int, Field(ge=1, le=20)]
    growth_per_year: Positive = 1.0
    """Factor from year to year."""
    peak_to_mean: AtLeastOne
    """The fleet of a year is provisioned for its peak."""
    prompt_tokens: Count
    answer_tokens: Count


class LatencySlo(Slo):
    """Latencies that this share of tasks must meet at the peak: `ttft` and `tpot` per request, the others per task."""

    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.95

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.limits:
            raise PydanticCustomError("slo", "give at least one of ttft, ttfo, tpot, e2el")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """Latency -> its limit in seconds."""
        given = {name: getattr(self, f"{name}_s") for name in ("ttft", "ttfo", "tpot", "e2el")}
        return {name: limit for name, limit in given.items() if limit is not None}


class Bought(Value):
    """Machines at a site for a price."""

    node: NodeRef
    site: SiteRef
    price: Annotated[Price, OneOf("price")] = Field(default="tco_neocloud", validate_default=True)
    price_range: Span = Span(low=1.0, high=1.0)
    """By which the price may turn out otherwise."""


class TrainingSide(Bought):
    """What pretraining runs on."""

    accelerators: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Numbers of accelerators to choose from: the cheapest that meets the deadline."""
    deadline_s: PositiveSeconds
    precision: Literal["bf16", "fp8", "fp8_block"] = "bf16"
    batch_tokens: Count
    """Of the global batch, the same for all sizes."""
    seq_len: Count = 8192
    data_tokens: Positive
    """Fresh tokens that there are; more are repetitions, worth less (quality/data.py)."""
    slowdown: AtLeastOne = PUBLISHED_SLOWDOWN
    """How much longer a job takes than its operators: fitted on published jobs."""
    error: Span = Span(low=0.75, high=1.25)
    """Range of what training really costs over what is predicted: the spread over the same published jobs."""


class ReinforcementLearning(Value):
    """What teaching to reason takes, and what part of it may be bought."""

    reference: PostTraining
    """The dose that gives the whole reasoning shift of the quality model."""
    doses: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)] = (0, 0.01, 0.1, 1)
    """Shares of the reference that may be bought; more than it is not known to give more."""
    decades: Positive = 3.0
    """The shift grows with the logarithm of the dose, from none at 10**-decades of the reference. Assumed."""
    decades_range: Span = Span(low=2 / 3, high=4 / 3)


class ServingSide(Bought):
    """What serving runs on."""

    engine: ServingEngineRef = Field(default="vllm-v1", validate_default=True)
    precision: Precision
    max_accelerators: Count = 8
    """Of one replica; the number that serves a query cheapest is taken, in powers of two."""
    tasks: Annotated[int, Field(ge=50)] = 240
    """Of one simulation at least; more where more are in flight."""


class Policy(Value):
    """A named way to spend: strategies with a range of thinking."""

    strategies: Annotated[tuple[Name, ...], Field(min_length=1)]
    min_thinking: Positive = 1.0
    """Mean thinking tokens of a sample."""
    max_thinking: Positive = 1e9


class TradeoffStudy(Value):
    """Which training, thinking and fleet reach a quality target for a demand, within an SLO, at least cost."""

    study: Literal["tradeoff"]
    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    target: Target
    demand: Demand
    slo: LatencySlo
    training: TrainingSide
    rl: ReinforcementLearning
    serving: ServingSide
    sizes: Annotated[tuple[Positive, ...], Field(min_length=2)]
    """Active weights of the models that are simulated, rising; between them costs are interpolated."""
    sparsity: AtLeastOne = 1.0
    """All weights over active ones: 1 is dense."""
    thinking: Annotated[tuple[Positive, ...], Field(min_length=2)]
    """Mean thinking tokens of a sample that are simulated, rising; between them costs are interpolated."""
    strategies: Annotated[dict[Name, AnyStrategy], Field(min_length=1)]
    """By name: chain_of_thought, vote, or best_of_n with a verifier that is a program."""
    policies: Annotated[dict[Name, Policy], Field(min_length=2, max_length=2)]
    """Two: the one that trains more, then the one that thinks longer."""
    draws: Annotated[int, Field(ge=20)] = 1000

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("sizes", "thinking"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise PydanticCustomError("order", f"{name} must rise")
        for name, strategy in self.strategies.items():
            _check_strategy(name, strategy)
        if not any(isinstance(each, ChainOfThought) for each in self.strategies.values()):
            raise PydanticCustomError(
                "strategies", "one strategy must be chain_of_thought: rollouts are priced as its"
            )
        for name, policy in self.policies.items():
            lost = [each for each in policy.strategies if each not in self.strategies]
            if lost:
                raise PydanticCustomError(
                    "strategy",
                    f'policies.{name}: no strategy "{lost[0]}"; choices: {", ".join(self.strategies)}',
                )
            if policy.min_thinking > self.thinking[-1] or policy.max_thinking < self.thinking[0]:
                raise PydanticCustomError(
                    "thinking",
                    f"policies.{name}: its thinking lies outside of what is simulated, "
                    f"{self.thinking[0]:g} to {self.thinking[-1]:g}",
                )  # fmt: skip
        return self

    def check_names(self) -> None:
        """Raise InputError where the benchmark or the anchor is not known, or neither ties to the other."""
        solver(load_trained_model(self.target.like), load_benchmark(self.target.benchmark))


def _check_strategy(name: str, strategy: AnyStrategy) -> None:
    plain = ChainOfThought()
    if isinstance(strategy, ChainOfThought):
        if strategy != plain:
            raise PydanticCustomError(
                "scale", f"strategies.{name}: leave out `scale`; `thinking` says how long"
            )
        return
    if not isinstance(strategy, Vote | BestOfN):
        raise PydanticCustomError(
            "strategy",
            f"strategies.{name}: of {strategy.kind} no closed form of accuracy is known; use chain_of_thought, vote or "
            "best_of_n",
        )  # fmt: skip
    if strategy.sample != plain:
        raise PydanticCustomError("sample", f"strategies.{name}: samples must be plain chains of thought")
    if isinstance(strategy, BestOfN) and strategy.verifier.to is not None:
        raise PydanticCustomError(
            "verifier", f"strategies.{name}: only verifiers that are programs; leave out `to`"
        )


def load_study(source: str | Path, settings: Sequence[str] = ()) -> TradeoffStudy:
    """Return the study in a file, or the built-in of that name, with settings `a.b=value` applied.

    Raises InputError with every problem found, each with file, line and the mend.
    """
    document = read(source, "studies")
    if not isinstance(document.data, dict) or document.data.get("study") != "tradeoff":
        what = "is no tradeoff study: it must say `study: tradeoff`; a scenario is for `clustersim run`"
        raise InputError([Problem(str(document.place(())), what)])
    for setting in settings:
        document = apply_setting(document, setting, TradeoffStudy)
    try:
        study = TradeoffStudy.model_validate(document.data)
    except ValidationError as error:
        raise InputError(problems_of(error, document, TradeoffStudy)) from None
    try:
        study.check_names()
    except InputError as error:
        raise InputError([Problem(f"{document.place(('target',))}: target", str(error))]) from None
    return study
