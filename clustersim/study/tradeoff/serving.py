"""What a query costs to serve, by simulation: the highest rate one replica carries within the SLO."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log, sqrt

import numpy as np

from clustersim.cost.account import account
from clustersim.errors import InputError
from clustersim.records import ANSWERED
from clustersim.results.energy import bill
from clustersim.results.held import Held
from clustersim.results.regime import load_of
from clustersim.results.served import Served, serve
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.simulation.world import World
from clustersim.study.tradeoff.replica import Cell, closed_form_rate, lengths, mean_seconds, plan_of, powers
from clustersim.study.tradeoff.schema import TradeoffStudy

#: Steps of the search; the rate is bracketed to this factor, and interpolated inside.
_STEP, _FINE = 1.35, 1.12
_MOST_TRIALS = 12
#: The run goes on for so many times the tasks in flight.
_IN_FLIGHT = 5


@dataclass(frozen=True)
class Carried:
    """What a replica carries of a cell. Rates are tasks a second at the SLO's edge."""

    cell: Cell
    accelerators: int = 0
    """Of a replica; tp, or expert parallel ranks with attention of their own."""
    tasks_per_s: float = float("nan")
    rate_sd: float = 0.0
    """Standard error of ln(tasks_per_s), simulation alone: from two seeds, so itself rough."""
    busy_w: float = 0.0
    """Facility watts of a replica at that rate."""
    idle_w: float = 0.0
    rel_error: float = 0.0
    """Standard relative error of step times."""
    evidence: tuple[tuple[str, float], ...] = ()
    """Share of step time by evidence."""
    tokens_per_task: float = 0.0
    limit: str = ""
    """The latency that binds."""
    trials: int = 0
    why_not: str = ""
    """Why the SLO cannot be met; then nothing else is known."""


def measure(study: TradeoffStudy, cell: Cell, seed: int) -> Carried:
    """Return what one replica carries of a cell, on the parallelism that is cheapest a query in closed form."""
    reasons, found = [], []
    for ranks in powers(study.serving.max_accelerators):
        try:
            plans = plan_of(study, cell.size, ranks)
        except InputError as error:
            reasons.append(str(error.problems[0].what))
            continue
        rate, why = closed_form_rate(study, cell, plans)
        if rate > 0:
            found.append((rate / ranks, ranks, rate))
        reasons.append(why)
    if not found:
        return Carried(cell, why_not=reasons[-1] if reasons else "no parallelism")
    _, ranks, guess = max(found)
    return _search(_Trial(study, cell, plan_of(study, cell.size, ranks)), ranks, guess, seed)


def _search(trial: _Trial, ranks: int, guess: float, seed: int) -> Carried:
    first, limit, last, trials = _highest(trial, guess, seed)
    if last is None:
        return Carried(trial.cell, why_not=f"one replica misses {limit} at every rate that was tried")
    # From elsewhere on the ladder of rates, so that the two do not agree merely because they try the same ones.
    again, _, second, more = _highest(trial, first * sqrt(_STEP), seed + 1_000_003)
    rates = [first, again] if second is not None else [first]
    sd = abs(log(rates[0] / rates[-1])) / 2 if second is not None else log(_STEP)
    sd = max(sd, log(_FINE) / sqrt(12 * len(rates)))
    served, plans, tokens = last
    spent = account(plans.cost, served.runs)
    cost = bill(plans, served, spent, Held(plans.deployment.replicas, served.window_s))
    busy = float(np.mean(cost.busy_w)) if len(cost.busy_w) else cost.idle_w
    pue = plans.site.pue.value
    return Carried(
        trial.cell, ranks, exp(sum(map(log, rates)) / len(rates)), sd, busy * pue, cost.idle_w * pue,
        spent.rel_error, tuple(sorted(spent.evidence.items())), tokens, limit, trials + more,
    )  # fmt: skip


Kept = tuple[Served, DeploymentPlan, float]


def _highest(trial: _Trial, guess: float, seed: int) -> tuple[float, str, Kept | None, int]:
    """Return the highest rate within the SLO near a guess, what binds, the run at it, and how many runs that took.

    The rate is bracketed by steps of a factor, then halved in logarithms; inside the last bracket the latency is
    taken as a power of the rate, or its middle where the upper end has none. No run: no rate meets the SLO.
    """
    good: tuple[float, float] | None = None
    bad: tuple[float, float] | None = None
    kept: Kept | None = None
    rate, binding, trials = guess, next(iter(trial.study.slo.limits)), 0
    while trials < _MOST_TRIALS:
        trials += 1
        over, which, view = trial.run(rate, seed)
        if over <= 1:
            good, kept = (rate, over), view
        else:
            bad, binding = (rate, over), which
        if good and bad:
            if bad[0] / good[0] < _FINE:
                break
            rate = sqrt(good[0] * bad[0])
        else:
            rate = rate * _STEP if good else rate / _STEP**2
    if good is None:
        return 0.0, binding, None, trials
    if bad is None:
        return good[0], binding, kept, trials
    if not np.isfinite(bad[1]) or good[1] <= 0:  # a queue grows somewhere between
        return sqrt(good[0] * bad[0]), binding, kept, trials
    share = log(1 / good[1]) / max(log(bad[1] / good[1]), 1e-12)
    return good[0] * (bad[0] / good[0]) ** min(max(share, 0.0), 1.0), binding, kept, trials


@dataclass(frozen=True)
class _Trial:
    """Runs one replica of a cell at a rate."""

    study: TradeoffStudy
    cell: Cell
    plan: DeploymentPlan

    def run(self, rate: float, seed: int) -> tuple[float, str, Kept]:
        """Return the largest latency over its limit (inf where a queue grows), which, and what was served."""
        scenario = self.scenario(rate)
        world = World(scenario, seed, [self.plan], None)
        world.run()
        view = serve(world.records, world.runs.columns(), [self.plan], self.plan, 0, self.window(world))
        tasks, (start, end) = world.tasks, view.window_s
        arrival = np.asarray(tasks.column("arrival_s"))
        mine = (arrival >= start) & (arrival <= end) & (np.asarray(tasks.column("status")) == ANSWERED)
        waits = {
            "ttfo": (np.asarray(tasks.column("first_output_s")) - arrival)[mine],
            "e2el": (np.asarray(tasks.column("finish_s")) - arrival)[mine],
            "ttft": view.in_window("ttft"),
            "tpot": view.in_window("tpot"),
        }
        quantile = self.study.slo.quantile
        over = {
            name: float(np.quantile(waits[name], quantile)) / limit if len(waits[name]) else float("inf")
            for name, limit in self.study.slo.limits.items()
        }
        which = max(over, key=lambda name: over[name])
        if view.num_rejected:
            return float("inf"), "room for its longest sample in the KV cache", (view, self.plan, 0.0)
        if (
            load_of(self.plan, view, Held(self.plan.deployment.replicas, view.window_s), True).regime
            == "OVERLOADED"
        ):
            return float("inf"), "a queue that does not grow", (view, self.plan, 0.0)
        made = world.records.column("thinking_tokens") + world.records.column("answer_tokens")
        return over[which], which, (view, self.plan, float(made.sum()) / len(arrival))

    def window(self, world: World) -> tuple[float, float]:
        """Return what is measured: arrivals after the first fifth of tasks, to the last."""
        arrival = np.asarray(world.tasks.column("arrival_s"))
        return float(arrival[len(arrival) // 5]), float(arrival[-1])

    def scenario(self, rate: float) -> Scenario:
        """Return the scenario of one replica at a rate, tasks a second."""
        seconds = mean_seconds(self.study, self.cell, self.plan, rate)
        num = max(self.study.serving.tasks, ceil(_IN_FLIGHT * rate * seconds))
        base = self.plan.deployment
        tasks = {
            "strategy": self.study.strategies[self.cell.strategy],
            "accuracy": min(0.999, self.cell.sample_accuracy),
        }
        workload = {
            "name": "queries",
            "arrivals": {"kind": "poisson", "rate": f"{rate!r} req/s"},
            "num_requests": num,
            "lengths": lengths(self.study, self.cell),
            "tasks": tasks,
        }  # fmt: skip
        cluster = self.plan.cluster
        fleet = [{"site": self.plan.site, "clusters": [cluster]}]
        return Scenario.model_validate(
            {"name": "cell", "fleet": fleet, "deployments": [base], "workloads": [workload]}
        )
