"""What a query costs to serve, by simulation: the highest rate one replica carries within the SLO."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, log, log2, sqrt

import numpy as np

from clustersim.cost.account import account
from clustersim.errors import InputError
from clustersim.models.layout import Parallelism
from clustersim.models.spec import ModelSpec
from clustersim.quality.benchmark import load_benchmark
from clustersim.records import ANSWERED, Floats
from clustersim.results.energy import bill
from clustersim.results.regime import load_of
from clustersim.results.served import Served, serve
from clustersim.scenario.plan import DeploymentPlan, plan
from clustersim.scenario.schema import Scenario
from clustersim.simulation.world import World
from clustersim.study.tradeoff.schema import TradeoffStudy
from clustersim.training.shapes import dense, moe

#: Steps of the search; the rate is bracketed to this factor, and interpolated inside.
_STEP, _FINE = 1.35, 1.12
_MOST_TRIALS = 12
#: Samples longer than this many standard deviations of their logarithm are drawn again.
_LONGEST_SIGMAS = 3.0
#: The run goes on for so many times the tasks in flight.
_IN_FLIGHT = 5


@dataclass(frozen=True)
class Cell:
    """A size, a strategy and a length of thinking. `sample_accuracy` decides when a vote or a search may stop."""

    size: float
    strategy: str
    thinking: float
    sample_accuracy: float


@dataclass(frozen=True)
class Served1:
    """What a replica carries of a cell. Rates are tasks a second at the SLO's edge."""

    cell: Cell
    accelerators: int = 0
    """Of a replica; tp, or expert parallel ranks with attention of their own."""
    tasks_per_s: float = float("nan")
    rate_sd: float = 0.0
    """Standard error of ln(tasks_per_s): simulation alone."""
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


def spec_of(study: TradeoffStudy, size: float) -> ModelSpec:
    """Return a model of so many active weights, dense or a mixture of experts as the study says."""
    return dense(size) if study.sparsity == 1 else moe(size, study.sparsity)


def measure(study: TradeoffStudy, cell: Cell, seed: int) -> Served1:
    """Return what one replica carries of a cell, on the parallelism that is cheapest a query in closed form."""
    reasons, found = [], []
    for ranks in _powers(study.serving.max_accelerators):
        try:
            plans = _plan(study, cell.size, ranks)
        except InputError as error:
            reasons.append(str(error.problems[0].what))
            continue
        rate, why = closed_form_rate(study, cell, plans)
        if rate > 0:
            found.append((rate / ranks, ranks, rate))
        reasons.append(why)
    if not found:
        return Served1(cell, why_not=reasons[-1] if reasons else "no parallelism")
    _, ranks, guess = max(found)
    return _search(_Trial(study, cell, _plan(study, cell.size, ranks)), ranks, guess, seed)


def _search(trial: _Trial, ranks: int, guess: float, seed: int) -> Served1:
    first, limit, last, trials = _highest(trial, guess, seed)
    if last is None:
        return Served1(trial.cell, why_not=f"one replica misses {limit} at every rate that was tried")
    again, _, second, more = _highest(trial, first, seed + 1_000_003)
    rates = [first, again] if second is not None else [first]
    sd = abs(log(rates[0] / rates[-1])) / 2 if second is not None else log(_STEP)
    sd = max(sd, log(_FINE) / sqrt(12 * len(rates)))
    served, plans, tokens = last
    spent = account(plans.cost, served.runs)
    cost = bill(plans, served, spent)
    busy = float(np.mean(cost.busy_w)) if len(cost.busy_w) else cost.idle_w
    pue = plans.site.pue.value
    return Served1(
        trial.cell, ranks, exp(sum(map(log, rates)) / len(rates)), sd, busy * pue, cost.idle_w * pue,
        spent.rel_error, tuple(sorted(spent.evidence.items())), tokens, limit, trials + more,
    )  # fmt: skip


Kept = tuple[Served, DeploymentPlan, float]


def _highest(trial: _Trial, guess: float, seed: int) -> tuple[float, str, Kept | None, int]:
    """Return the highest rate within the SLO near a guess, what binds, the run at it, and how many runs that took.

    The rate is bracketed by steps of a factor, then halved in logarithms; inside the last bracket the latency is
    taken as a power of the rate. No run: no rate meets the SLO.
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
    if bad is None or not np.isfinite(bad[1]) or good[1] <= 0:
        return good[0], binding, kept, trials
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
        view = serve(world.records, world.runs.columns(), self.plan, 0, self.window(world))
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
        if load_of(self.plan, view, True).regime == "OVERLOADED" or view.num_rejected:
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
        tasks = {"strategy": self.study.strategies[self.cell.strategy], "accuracy": min(0.999, self.cell.sample_accuracy)}
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


def lengths(study: TradeoffStudy, cell: Cell) -> dict[str, object]:
    """Return the lengths of a query's plain attempt: thinking is lognormal, as on the benchmark."""
    sigma = load_benchmark(study.target.benchmark).thinking_sigma.value
    thinking = {"kind": "lognormal", "mean": cell.thinking, "sigma": sigma, "max": _longest(cell.thinking, sigma)}
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
    long = cell.thinking * exp(1.645 * sigma - sigma**2 / 2) + study.demand.answer_tokens
    tokens = cell.thinking + study.demand.answer_tokens
    samples = getattr(study.strategies[cell.strategy], "n", 1)
    context = study.demand.prompt_tokens + tokens / 2
    limits = study.slo.limits
    most = min(
        limits.get("tpot", np.inf), limits.get("e2el", np.inf) / long,
        limits.get("ttfo", np.inf) / max(long - study.demand.answer_tokens, 1.0),
    )  # fmt: skip
    slots = _slots(plans, context)
    if slots < samples:
        return 0.0, f"its KV cache holds {slots} of {samples} samples"
    fitting = [b for b in _powers(slots) if plans.step_time.decode(b).at(b * context) <= most]
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


def _powers(most: int) -> Iterator[int]:
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
    }  # fmt: skip
    scenario = Scenario.model_validate(
        {"name": "cell", "fleet": [{"site": side.site, "clusters": [cluster]}], "deployments": [deployment],
         "workloads": [workload]}
    )  # fmt: skip
    return plan(scenario)[0]


def _plan(study: TradeoffStudy, size: float, ranks: int) -> DeploymentPlan:
    return _planned(study_text(study), size, ranks)


def study_text(study: TradeoffStudy) -> str:
    """Return a study as JSON of what was given, which pickles and hashes."""
    return study.model_dump_json(exclude_unset=True)


def rates(found: list[Served1]) -> Floats:
    """Return tasks a second of cells, nan where the SLO cannot be met."""
    return np.array([each.tasks_per_s for each in found])
