"""A study whose costs follow from FLOP counts alone, so that theory says what must come out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clustersim.study.tradeoff import TradeoffStudy, load_study
from clustersim.study.tradeoff.draws import Draw, draw_all
from clustersim.study.tradeoff.plans import Plans, plans
from clustersim.study.tradeoff.surfaces import ServingTable, Surfaces, fine

#: FLOP that a dollar buys, and a replica's FLOP/s; a replica is tiny, so that fleets are hardly rounded.
FLOP_PER_USD, REPLICA_FLOPS = 1e18, 1e11
USD_PER_S = REPLICA_FLOPS / FLOP_PER_USD


def study(*settings: str) -> TradeoffStudy:
    """Return the built-in study with one strategy, all reinforcement learning and the settings."""
    plain = (
        "rl.doses=[1]", "strategies={single: chain_of_thought}", "policies.think_longer.strategies=[single]", "draws=40",
        "sizes=[1e9, 1e10, 1e11, 1e12]", "training.deadline=1e9 days", "training.data_tokens=1e30",
    )  # fmt: skip
    return load_study("train_or_think", [*plain, *settings])


def by_flops(asked: TradeoffStudy, serving_factor: float = 1.0) -> Surfaces:
    """Return costs of 2 N FLOP a served token and 6 N a trained one."""
    sizes, thinking = fine(asked.sizes), fine(asked.thinking)
    tokens = np.broadcast_to(thinking + asked.demand.answer_tokens, (len(sizes), len(thinking)))
    rate = REPLICA_FLOPS / (2 * sizes[:, None] * tokens) / serving_factor
    ones = np.ones_like(rate)
    tables = {
        name: ServingTable(rate / getattr(each, "n", 1), ones, 100 * ones, 50 * ones, 0.02 * ones, tokens)
        for name, each in asked.strategies.items()
    }
    usd = (6 * sizes / FLOP_PER_USD)[None]
    return Surfaces(sizes, thinking, tables, USD_PER_S, (1024,), usd, 1e-9 * usd, 1e9 * usd, 0.05)


def central(asked: TradeoffStudy, mode: str = "log_compute") -> Draw:
    """Return the best values of everything that is drawn."""
    return draw_all(asked, mode, 0).central  # type: ignore[arg-type]  # a mode by name


def all_plans(settings: Sequence[str] = (), mode: str = "log_compute", serving_factor: float = 1.0) -> Plans:
    """Return the plans of the stub at best values."""
    asked = study(*settings)
    return plans(asked, by_flops(asked, serving_factor), central(asked, mode))
