"""The answer of a study in one mode of the quality model: curves with bands, the optimum, the crossover, the doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clustersim.quality.solver import Mode
from clustersim.records import Floats
from clustersim.study.tradeoff.draws import draw_all
from clustersim.study.tradeoff.plans import Choice, Plans, cheapest, least_usd, plans
from clustersim.study.tradeoff.schema import Policy, TradeoffStudy
from clustersim.study.tradeoff.sensitivity import Driver, drivers
from clustersim.study.tradeoff.surfaces import Surfaces

#: Queries a day over which curves are drawn, four a decade.
DEMANDS = np.logspace(3, 10, 29)
#: Ends of bands.
LOW, HIGH = 0.05, 0.95
#: The name of all plans together, beside the two policies.
ANY = "any"


@dataclass(frozen=True)
class Band:
    """A best value, and the range that nine of ten draws fall in; inf beyond what was looked at."""

    best: float
    low: float
    high: float

    @staticmethod
    def of(best: float, draws: Floats) -> Band:
        """Return the band of draws, those that have no value (nan) left out."""
        known = draws[~np.isnan(draws)]
        if not len(known):
            return Band(best, float("nan"), float("nan"))
        low, high = np.quantile(known, [LOW, HIGH], method="nearest")
        return Band(best, float(low), float(high))


@dataclass(frozen=True)
class Curve:
    """Dollars over DEMANDS, (demands,); inf where the target is out of reach."""

    best: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Answer:
    """What one mode of the quality model says. `first` and `second` are the policies in the study's order."""

    mode: Mode
    curves: Mapping[str, Curve]
    choices: Mapping[str, Choice | None]
    """The cheapest plan at the asked demand: of all, and of each policy."""
    along: Sequence[Choice | None]
    """The cheapest of all plans for each of DEMANDS."""
    bands: Mapping[str, Band]
    """Of the cheapest of all plans at the asked demand: usd, size, thinking, tokens_per_weight, peak_mw, train_mw,
    train_flops, usd_per_query; and of the cost ratio, second policy over first."""
    cheaper: Floats
    """P(second policy is cheaper) over DEMANDS, among draws in which either can be."""
    cheaper_asked: float
    neither: float
    """Share of draws in which neither policy reaches the target within the SLO at the asked demand."""
    crossover: Band
    """Demand up to which the second policy is cheaper: 0 where it never is, inf where it always is."""
    drivers: Sequence[Driver]
    frontier: Sequence[tuple[float, float, float, float, str]]
    """Pareto plans by rising fixed dollars: (fixed, serving dollars a query, size, thinking, strategy)."""
    why_not: str
    """Why no plan reaches the target at best values; empty where one does."""

    def as_json(self) -> dict[str, Any]:
        """Return plain data; infinities and nan as None."""
        return _plain(asdict(self))  # type: ignore[no-any-return]  # a mapping in, a mapping out


_BANDS = (
    "usd",
    "size",
    "thinking",
    "tokens_per_weight",
    "peak_mw",
    "train_mw",
    "train_flops",
    "usd_per_query",
)


def answer(
    study: TradeoffStudy, surfaces: Surfaces, mode: Mode, seed: int, done: Callable[[], None] | None = None
) -> Answer:
    """Return the answer in one mode; `done` after each draw. Equal seeds share their draws between modes."""
    every = draw_all(study, mode, seed)
    names = list(study.policies)
    policies: dict[str, Policy | None] = {ANY: None, **study.policies}
    asked = study.demand.queries_per_day
    grid = np.append(DEMANDS, asked)
    central = plans(study, surfaces, every.central)
    best = least_usd(central, grid, policies)
    rows: dict[str, list[Floats]] = {name: [] for name in policies}
    optima: list[Choice | None] = []
    for draw in every.draws:
        found = plans(study, surfaces, draw)
        for name, usd in least_usd(found, grid, policies).items():
            rows[name].append(usd)
        optima.append(cheapest(found, asked))
        if done:
            done()
    drawn = {name: np.stack(values) for name, values in rows.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = drawn[names[1]] / drawn[names[0]]
        best_ratio = best[names[1]] / best[names[0]]
    chance = _chance(drawn[names[0]], drawn[names[1]])
    crossings = np.array(
        [crossover(a[:-1], b[:-1]) for a, b in zip(drawn[names[0]], drawn[names[1]], strict=True)]
    )
    choices = {name: cheapest(central, asked, policy) for name, policy in policies.items()}
    bands = {"ratio": Band.of(float(best_ratio[-1]), ratio[:, -1])}
    if choices[ANY] is not None:
        for key in _BANDS:
            values = [np.nan if each is None else getattr(each, key) for each in optima]
            bands[key] = Band.of(float(getattr(choices[ANY], key)), np.array(values))
    crossing = crossover(best[names[0]][:-1], best[names[1]][:-1])
    return Answer(
        mode,
        {name: _curve(best[name][:-1], drawn[name][:, :-1]) for name in policies},
        choices,
        [cheapest(central, float(demand)) for demand in DEMANDS],
        bands,
        chance[:-1],
        float(chance[-1]),
        float(np.isnan(ratio[:, -1]).mean()),
        Band.of(crossing, crossings),
        drivers(every.inputs, ratio[:, -1]),
        frontier(central, asked),
        _why_not(central) if choices[ANY] is None else "",
    )


def _curve(best: Floats, drawn: Floats) -> Curve:
    low, high = np.quantile(drawn, [LOW, HIGH], axis=0, method="nearest")
    return Curve(best, low, high)


def _chance(first: Floats, second: Floats) -> Floats:
    """Return P(second < first) over draws (draws, demands), nan where neither ever can be."""
    either = np.isfinite(first) | np.isfinite(second)
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (second < first).sum(axis=0) / np.where(either.any(axis=0), either.sum(axis=0), np.nan)
        )


def crossover(first: Floats, second: Floats) -> float:
    """Return the demand up to which `second` is cheaper, by log-linear interpolation over DEMANDS.

    0 where it never is, inf where it still is at the last, nan where neither can be. The last crossing counts.
    """
    if not (np.isfinite(first) | np.isfinite(second)).any():
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.log(second) - np.log(first)
    gap = np.where(np.isnan(gap), np.inf, gap)
    below = np.flatnonzero(gap < 0)
    if not len(below):
        return 0.0
    last = int(below[-1])
    if last == len(gap) - 1:
        return float("inf")
    a, b = gap[last], gap[last + 1]
    share = 0.5 if not (np.isfinite(a) and np.isfinite(b)) else -a / (b - a)
    return float(DEMANDS[last] * (DEMANDS[last + 1] / DEMANDS[last]) ** share)


def frontier(found: Plans, queries_per_day: float) -> list[tuple[float, float, float, float, str]]:
    """Return the plans that no other beats in both dollars before the first query and dollars a query."""
    demand = found.study.demand
    queries = sum(queries_per_day * demand.growth_per_year**y for y in range(demand.years)) * 365.25
    fixed = found.fixed_usd.min(axis=0)
    each = np.where(np.isfinite(fixed), found.serving_usd(queries_per_day)[0] / queries, np.inf)
    names, surfaces = list(found.study.strategies), found.surfaces
    rows, least = [], np.inf
    for flat in np.lexsort((each.ravel(), fixed.ravel())):
        at = np.unravel_index(flat, fixed.shape)
        if not np.isfinite(fixed[at]):
            break
        if each[at] < least:
            least = float(each[at])
            size, thinking = float(surfaces.sizes[at[2]]), float(surfaces.thinking[at[1]])
            rows.append((float(fixed[at]), least, size, thinking, names[at[0]]))
    return rows


def _why_not(found: Plans) -> str:
    """Return what stands in the way of every plan."""
    served = np.isfinite(found.replica_rate)
    if not np.isfinite(np.where(served, found.tokens, np.inf)).any():
        return "no size learns enough from the data there are, with as much thinking as the SLO leaves"
    return f"no fleet of {max(found.surfaces.train_accelerators):,} accelerators or fewer trains it by the deadline"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
