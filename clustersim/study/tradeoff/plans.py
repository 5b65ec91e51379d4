"""Every plan (reinforcement learning, strategy, thinking, size) with its costs, and the cheapest for a demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustersim.records import Floats
from clustersim.study.tradeoff.draws import Draw
from clustersim.study.tradeoff.quality import needed_mean
from clustersim.study.tradeoff.schema import Policy, TradeoffStudy
from clustersim.study.tradeoff.surfaces import Surfaces
from clustersim.units import DAY_S
from clustersim.workload.strategies.chain_of_thought import ChainOfThought

YEAR_S = 365.25 * DAY_S
#: Axes of every array of plans.
AXES = ("dose", "strategy", "thinking", "size")


@dataclass(frozen=True)
class Plans:
    """All plans under one draw; arrays (doses, strategies, thinking, sizes) or such as broadcast to that."""

    study: TradeoffStudy
    surfaces: Surfaces
    tokens: Floats
    """Pretraining tokens, repetitions counted; inf where the target is out of reach."""
    pretrain_usd: Floats
    pretrain_s: Floats
    pretrain_j: Floats
    train_accelerators: NDArray[np.int64]
    rl_usd: Floats
    replica_usd_per_s: Floats
    replica_rate: Floats
    """Tasks a second of one replica within the SLO; nan where it cannot be met."""
    busy_w: Floats
    idle_w: Floats

    @property
    def fixed_usd(self) -> Floats:
        """Dollars before the first query; inf where the plan cannot be."""
        fixed = self.pretrain_usd + self.rl_usd
        return np.where(np.isfinite(fixed) & np.isfinite(self.replica_rate), fixed, np.inf)

    def replicas(self, queries_per_day: float) -> list[Floats]:
        """Return the replicas of each year: whole ones, for its peak, at least one."""
        demand = self.study.demand
        peaks = [
            queries_per_day * demand.growth_per_year**year * demand.peak_to_mean / DAY_S
            for year in range(demand.years)
        ]
        return [np.maximum(1.0, np.ceil(peak / self.replica_rate)) for peak in peaks]

    def serving_usd(self, queries_per_day: float) -> Floats:
        """Return the dollars of serving over all years, (1, strategies, thinking, sizes)."""
        years = sum(self.replicas(queries_per_day))
        return np.asarray(years * YEAR_S * self.replica_usd_per_s)

    def total_usd(self, queries_per_day: float) -> Floats:
        """Return the dollars of everything; inf where the plan cannot be."""
        serving = self.serving_usd(queries_per_day)
        return np.asarray(self.fixed_usd + np.where(np.isfinite(serving), serving, np.inf))

    def allowed(self, policy: Policy | None) -> NDArray[np.bool_]:
        """Return which plans a policy allows, (1, strategies, thinking, 1); all without one."""
        thinking = self.surfaces.thinking
        near = 1 + 1e-9
        inside = np.ones(len(thinking), dtype=bool)
        named = np.ones(len(self.study.strategies), dtype=bool)
        if policy is not None:
            inside = (thinking >= policy.min_thinking / near) & (thinking <= policy.max_thinking * near)
            named = np.array([name in policy.strategies for name in self.study.strategies])
        return np.asarray(named[None, :, None, None] & inside[None, None, :, None])


@dataclass(frozen=True)
class Choice:
    """The cheapest plan for a demand, all of it."""

    usd: float
    pretrain_usd: float
    rl_usd: float
    serving_usd: float
    size: float
    train_tokens: float
    train_flops: float
    """6 N D."""
    train_accelerators: int
    train_days: float
    train_mw: float
    """Mean over pretraining, of the facility."""
    dose: float
    strategy: str
    thinking: float
    tokens_per_query: float
    replicas: float
    """In the last year."""
    accelerators: float
    """Of serving, in the last year."""
    replica_accelerators: float
    peak_mw: float
    """Of serving, in the last year."""
    mean_mw: float
    usd_per_query: float
    """Of serving alone."""

    @property
    def tokens_per_weight(self) -> float:
        """D / N."""
        return self.train_tokens / self.size


def plans(study: TradeoffStudy, surfaces: Surfaces, draw: Draw) -> Plans:
    """Return all plans with their costs under one draw."""
    doses = np.asarray(study.rl.doses, dtype=np.float64)
    numbers = draw.needs.solver.parameters
    means = np.array(
        [needed_mean(each, study.target.accuracy, numbers) for each in study.strategies.values()]
    )
    capability = draw.needs.capability(doses, means, surfaces.thinking)
    tokens = draw.needs.train_tokens(draw.needs.effective_flops(capability), surfaces.sizes)
    usd, seconds, joules, fleet = _pretraining(study, surfaces, tokens, draw.training_cost)
    rate, price = _rates(surfaces, draw), surfaces.serving_usd_per_accelerator_s * draw.serving_price
    replica = price * _stack(surfaces, "accelerators")
    return Plans(
        study, surfaces, tokens, usd * draw.training_price, seconds, joules, fleet,
        _rl_usd(study, surfaces, doses, replica, rate, draw), replica, rate,
        _stack(surfaces, "busy_w"), _stack(surfaces, "idle_w"),
    )  # fmt: skip


def _pretraining(
    study: TradeoffStudy, surfaces: Surfaces, tokens: Floats, cost: float
) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """Return dollars, seconds, joules and accelerators of the cheapest fleet that trains so many tokens in time."""
    best = [np.full(tokens.shape, np.inf) for _ in range(3)]
    fleet = np.zeros(tokens.shape, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        for index, number in enumerate(surfaces.train_accelerators):
            every = [
                cost * tokens * each[index]
                for each in (surfaces.train_usd, surfaces.train_s, surfaces.train_j)
            ]
            better = (every[1] <= study.training.deadline_s) & (every[0] < best[0])
            best = [np.where(better, new, old) for new, old in zip(every, best, strict=True)]
            fleet = np.where(better, number, fleet)
    return best[0], best[1], best[2], fleet


def _rates(surfaces: Surfaces, draw: Draw) -> Floats:
    rows = [
        np.log(table.tasks_per_s) + table.rate_sd * draw.simulation_error[name]
        for name, table in surfaces.serving.items()
    ]
    slower = np.log1p(surfaces.serving_error) * draw.serving_error
    return np.asarray(np.exp(_turned(rows) - slower))


def _stack(surfaces: Surfaces, name: str) -> Floats:
    return _turned([getattr(table, name) for table in surfaces.serving.values()])


def _turned(rows: list[Floats]) -> Floats:
    """Return tables (sizes, thinking) a strategy as (1, strategies, thinking, sizes)."""
    return np.stack(rows).transpose(0, 2, 1)[None]


def _rl_usd(
    study: TradeoffStudy, surfaces: Surfaces, doses: Floats, replica: Floats, rate: Floats, draw: Draw
) -> Floats:
    """Return the dollars of reinforcement learning, (doses, 1, 1, sizes): training.post_training's closed form.

    A rollout token costs what it does in serving single samples of the simulated thinking nearest to the rollout; an
    update what a token of pretraining does on the fleet that is cheapest for it.
    """
    given = study.rl.reference
    rollouts = given.num_iterations * given.num_prompts * given.samples
    single = next(name for name, each in study.strategies.items() if isinstance(each, ChainOfThought))
    near = int(np.argmin(np.abs(np.log(surfaces.thinking / given.rollout_tokens))))
    table = surfaces.serving[single]
    with np.errstate(invalid="ignore"):
        per_token = (replica[0, 0] / rate[0, 0])[near] / table.tokens_per_task[:, near]
    update = np.nanmin(surfaces.train_usd, axis=0) * draw.training_cost * draw.training_price
    seen = rollouts * (given.prompt_tokens + given.rollout_tokens)
    whole = (
        rollouts * given.rollout_tokens * per_token
        + (given.epochs + given.scoring_passes / 3) * seen * update
    )
    with np.errstate(invalid="ignore"):
        paid = np.where(doses[:, None] > 0, doses[:, None] * whole, 0.0)
    return np.asarray(paid[:, None, None, :])


def cheapest(found: Plans, queries_per_day: float, policy: Policy | None = None) -> Choice | None:
    """Return the cheapest plan that a policy allows; None where none reaches the target within the SLO."""
    total = np.where(found.allowed(policy), found.total_usd(queries_per_day), np.inf)
    at = np.unravel_index(int(np.argmin(total)), total.shape)
    if not np.isfinite(total[at]):
        return None
    return _choice(found, queries_per_day, at, float(total[at]))


def least_usd(found: Plans, demands: Floats, policies: Mapping[str, Policy | None]) -> dict[str, Floats]:
    """Return the least dollars of each policy for each demand, (demands,); inf where none can be."""
    masks = {name: found.allowed(policy) for name, policy in policies.items()}
    rows: dict[str, list[float]] = {name: [] for name in policies}
    # For a demand only the cheapest dose and fleet of each (strategy, thinking, size) can win.
    fixed = found.fixed_usd.min(axis=0, keepdims=True)
    for demand in demands:
        serving = found.serving_usd(float(demand))
        total = fixed + np.where(np.isfinite(serving), serving, np.inf)
        for name, mask in masks.items():
            rows[name].append(float(np.where(mask, total, np.inf).min()))
    return {name: np.array(values) for name, values in rows.items()}


def _choice(found: Plans, queries_per_day: float, at: tuple[np.intp, ...], usd: float) -> Choice:
    study, surfaces = found.study, found.surfaces
    dose, strategy, thinking, size = (int(i) for i in at)
    cell = (0, strategy, thinking, size)

    def of(values: Floats) -> float:
        return float(np.broadcast_to(values, found.tokens.shape)[at])

    name = list(study.strategies)[strategy]
    replicas = float(found.replicas(queries_per_day)[-1][cell])
    tokens, weights = of(found.tokens), float(surfaces.sizes[size])
    peak, last = (
        study.demand.peak_to_mean,
        queries_per_day * study.demand.growth_per_year ** (study.demand.years - 1),
    )
    load = min(1.0, last / DAY_S / (replicas * float(found.replica_rate[cell])))
    busy, idle = float(found.busy_w[cell]), float(found.idle_w[cell])
    serving = float(found.serving_usd(queries_per_day)[cell])
    queries = (
        sum(queries_per_day * study.demand.growth_per_year**y for y in range(study.demand.years)) * 365.25
    )
    per = float(found.surfaces.serving[name].accelerators[size, thinking])
    seconds = of(found.pretrain_s)
    return Choice(
        usd=usd, pretrain_usd=of(found.pretrain_usd), rl_usd=of(found.rl_usd), serving_usd=serving, size=weights,
        train_tokens=tokens, train_flops=6 * weights * tokens, train_accelerators=int(found.train_accelerators[at]),
        train_days=seconds / DAY_S, train_mw=of(found.pretrain_j) / seconds / 1e6, dose=study.rl.doses[dose],
        strategy=name, thinking=float(surfaces.thinking[thinking]),
        tokens_per_query=float(surfaces.serving[name].tokens_per_task[size, thinking]), replicas=replicas,
        accelerators=replicas * per, replica_accelerators=per,
        peak_mw=replicas * (idle + (busy - idle) * min(1.0, load * peak)) / 1e6,
        mean_mw=replicas * (idle + (busy - idle) * load) / 1e6, usd_per_query=serving / queries,
    )  # fmt: skip
