"""One replica of a cell before it is simulated: its model, its parallelism, and a first guess of its rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, log2

import numpy as np
from scipy.special import ndtri

from clustersim.models.layout import Parallelism
from clustersim.models.spec import ModelSpec
from clustersim.quality.benchmark import load_benchmark
from clustersim.scenario.plan import DeploymentPlan, plan
from clustersim.scenario.schema import Scenario
from clustersim.study.tradeoff.schema import TradeoffStudy
from clustersim.training.shapes import dense, moe

#: Queries whose thinking is further out than so many standard deviations of its logarithm are drawn again. Attempts at
#: one query differ (`Tasks.spread`), so there must be room for twice the longest.
_LONGEST_SIGMAS = 3.0


@dataclass(frozen=True)
class Cell:
    """A size, a strategy and a length of thinking. `sample_accuracy` decides when a vote or a search may stop."""

    size: float
    strategy: str
    thinking: float
    sample_accuracy: float


def spec_of(study: TradeoffStudy, size: float) -> ModelSpec:
    """Return a model of so many active weights, dense or a mixture of experts as the study says."""
    sigma = load_benchmark(study.target.benchmark).thinking_sigma.value
    demand = study.demand
    longest = ceil(2 * _longest(study.thinking[-1], sigma)) + demand.prompt_tokens + demand.answer_tokens
    if study.sparsity == 1:
        return dense(size, max_context=longest)
    return moe(size, study.sparsity, max_context=longest)


def lengths(study: TradeoffStudy, cell: Cell) -> dict[str, object]:
    """Return the lengths of a query's plain attempt: thinking is lognormal, as on the benchmark."""
    sigma = load_benchmark(study.target.benchmark).thinking_sigma.value
    thinking = {
        "kind": "lognormal",
        "mean": cell.thinking,
        "sigma": sigma,
        "max": _longest(cell.thinking, sigma),
    }
    return {
        "kind": "independent",
        "input": {"kind": "fixed", "value": study.demand.prompt_tokens},
        "thinking": thinking,
        "answer": {"kind": "fixed", "value": study.demand.answer_tokens},
    }  # fmt: skip


def _longest(mean: float, sigma: float) -> float:
    return mean * exp(_LONGEST_SIGMAS * sigma - sigma**2 / 2)


def mean_seconds(study: TradeoffStudy, cell: Cell, plans: DeploymentPlan, rate: float) -> float:
    """Return about how long a task is in flight at a rate: its mean tokens at the batch that the rate makes."""
    tokens = cell.thinking + study.demand.answer_tokens
    samples = getattr(study.strategies[cell.strategy], "n", 1)
    context = study.demand.prompt_tokens + tokens / 2
    batch = 1
    for _ in range(12):  # a fixed point: more in flight make slower steps
        step = plans.step_time.decode(batch).at(batch * context)
        batch = min(_slots(plans, context), max(1, round(rate * samples * tokens * step)))
    return float(tokens * plans.step_time.decode(batch).at(batch * context) * (1.6 if samples > 1 else 1.0))


def closed_form_rate(study: TradeoffStudy, cell: Cell, plans: DeploymentPlan) -> tuple[float, str]:
    """Return a first guess of the highest rate, tasks a second, and why there is none (0): steady batches, no queue."""
    sigma = load_benchmark(study.target.benchmark).thinking_sigma.value
    long = (
        cell.thinking * exp(float(ndtri(study.slo.quantile)) * sigma - sigma**2 / 2)
        + study.demand.answer_tokens
    )
    tokens = cell.thinking + study.demand.answer_tokens
    samples = getattr(study.strategies[cell.strategy], "n", 1)
    context = study.demand.prompt_tokens + tokens / 2
    limits = study.slo.limits
    most = min(
        limits.get("tpot", np.inf), limits.get("e2el", np.inf) / long,
        limits.get("ttfo", np.inf) / max(long - study.demand.answer_tokens, 1.0),
    )  # fmt: skip
    longest = 2 * _longest(cell.thinking, sigma) + study.demand.prompt_tokens + study.demand.answer_tokens
    if plans.memory.tokens_per_rank < longest:
        return (
            0.0,
            f"its KV cache holds {plans.memory.tokens_per_rank:,} tokens, its longest sample {longest:,.0f}",
        )
    slots = _slots(plans, context)
    if slots < samples:
        return 0.0, f"its KV cache holds {slots} of {samples} samples"
    fitting = [b for b in powers(slots) if plans.step_time.decode(b).at(b * context) <= most]
    if not fitting:
        step = plans.step_time.decode(1).at(context)
        return 0.0, f"a step takes {step * 1e3:.0f} ms alone, and the SLO leaves {most * 1e3:.1f} ms a token"
    batch = fitting[-1]
    step = plans.step_time.decode(batch).at(batch * context)
    return 0.85 * batch / step / tokens / samples, ""


def _slots(plans: DeploymentPlan, context: float) -> int:
    memory, scheduler = plans.memory, plans.deployment.scheduler
    ranks = plans.deployment.parallelism.attention_dp
    return max(0, min(scheduler.max_num_seqs * ranks, int(0.9 * memory.tokens_per_rank * ranks / context)))


def powers(most: int) -> Iterator[int]:
    """Yield 1, 2, 4, ... up to `most`."""
    return (2**n for n in range(int(log2(most)) + 1)) if most >= 1 else iter(())


@lru_cache(maxsize=32)
def _planned(text: str, size: float, ranks: int) -> DeploymentPlan:
    study = TradeoffStudy.model_validate_json(text)
    spec, side = spec_of(study, size), study.serving
    layout = Parallelism(tp=ranks) if spec.moe is None else Parallelism(ep=ranks, attention_dp=ranks)
    cluster = {
        "name": "serve", "node": side.node, "count": ceil(ranks / side.node.count), "price": side.price,
    }  # fmt: skip
    deployment = {
        "name": "replica", "model": spec, "on": "serve", "precision": side.precision, "parallelism": layout,
        "serving_engine": side.engine,
    }  # fmt: skip
    workload = {
        "name": "queries", "arrivals": {"kind": "poisson", "rate": "1 req/s"},
        "lengths": {"kind": "fixed", "input": 1, "answer": 1},
        "num_requests": 1,
    }  # fmt: skip
    scenario = Scenario.model_validate(
        {"name": "cell", "fleet": [{"site": side.site, "clusters": [cluster]}], "deployments": [deployment],
         "workloads": [workload]}
    )  # fmt: skip
    return plan(scenario)[0]


def plan_of(study: TradeoffStudy, size: float, ranks: int) -> DeploymentPlan:
    """Return one replica on so many accelerators; raises InputError where it does not fit."""
    return _planned(study_text(study), size, ranks)


def study_text(study: TradeoffStudy) -> str:
    """Return a study as JSON of what was given, which pickles and hashes."""
    return study.model_dump_json(exclude_unset=True)
