"""Train more, or think longer? The cheapest way to a quality target for a demand, within an SLO.

    simulate: what a replica carries within the SLO, for each size, strategy and length of thinking    serving.py
    training: what a token costs on each fleet, for each size                     surfaces.py, clustersim.training
    quality:  which pretraining reaches the target with so much thinking                              quality.py
    plans:    dollars of every plan, the cheapest for each demand                                       plans.py
    draws:    the same for every choice of what is not known; bands, crossover, drivers    draws.py, answer.py

What follows by construction, and what would change the answer: docs/background/train-or-think.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from functools import lru_cache
from math import isnan
from pathlib import Path
from typing import Any

from clustersim.quality.parameters import Parameters
from clustersim.quality.solver import MODES
from clustersim.study.processes import deaf, workers
from clustersim.study.tradeoff.answer import answer
from clustersim.study.tradeoff.quality import needed_mean
from clustersim.study.tradeoff.replica import Cell, study_text
from clustersim.study.tradeoff.result import Tradeoff
from clustersim.study.tradeoff.schema import TradeoffStudy, load_study
from clustersim.study.tradeoff.serving import Carried, measure
from clustersim.study.tradeoff.surfaces import surfaces, train_tokens_cost
from clustersim.training.curve import PerToken

__all__ = ["Tradeoff", "TradeoffStudy", "load_study", "tradeoff"]

#: Pieces of work finished, and how many there are.
Done = Callable[[int, int], None]


def tradeoff(
    study: TradeoffStudy | str | Path,
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    done: Done | None = None,
    processes: int | None = None,
) -> Tradeoff:
    """Return the answer to a study, a file or a built-in name; `seed` overrides the study's own.

    Raises InputError for a study that cannot be read, or where nothing meets the SLO.
    """
    asked = study if isinstance(study, TradeoffStudy) else load_study(study, settings)
    used = asked.seed if seed is None else seed
    cells = all_cells(asked)
    counts = asked.training.accelerators
    total = len(cells) + len(counts) + len(MODES) * asked.draws
    finished = 0

    def count() -> None:
        nonlocal finished
        finished += 1
        if done:
            done(finished, total)

    carried, tokens = _computed(asked, cells, used, count, processes or os.cpu_count() or 1)
    made = surfaces(asked, carried, tokens)
    answers = {mode: answer(asked, made, mode, used, count) for mode in MODES}
    return Tradeoff(asked, used, carried, tokens, made, answers)


def all_cells(study: TradeoffStudy) -> list[Cell]:
    """Return every size, strategy and length of thinking, the largest sizes first (they take longest)."""
    numbers, cells = Parameters(), []
    for size in reversed(study.sizes):
        for name, strategy in study.strategies.items():
            mean = needed_mean(strategy, study.target.accuracy, numbers)
            if not isnan(mean):  # else the strategy never reaches the target
                cells += [Cell(size, name, thinking, mean) for thinking in study.thinking]
    return cells


def _computed(
    study: TradeoffStudy, cells: Sequence[Cell], seed: int, count: Callable[[], None], processes: int
) -> tuple[list[Carried], dict[int, list[PerToken | None]]]:
    """Return what replicas carry and what training takes, computed in processes."""
    text = study_text(study)
    if processes == 1:
        carried = [_counted(measure(study, cell, seed), count) for cell in cells]
        tokens = {n: _counted(train_tokens_cost(study, n), count) for n in study.training.accelerators}
        return carried, tokens
    with workers(processes) as pool:
        with deaf():
            trained: dict[Future[Any], int] = {
                pool.submit(_train, text, number): number for number in study.training.accelerators
            }
            served: dict[Future[Any], Cell] = {
                pool.submit(_measure, text, cell, seed): cell for cell in cells
            }
        results: dict[Future[Any], Any] = {}
        for future in as_completed([*trained, *served]):
            results[future] = _counted(future.result(), count)
        carried = [results[future] for future in served]
        tokens = {number: results[future] for future, number in trained.items()}
    return carried, tokens


def _counted(value: Any, count: Callable[[], None]) -> Any:
    count()
    return value


@lru_cache(maxsize=4)
def _study(text: str) -> TradeoffStudy:
    return TradeoffStudy.model_validate_json(text)


def _measure(text: str, cell: Cell, seed: int) -> Carried:
    return measure(_study(text), cell, seed)


def _train(text: str, number: int) -> list[PerToken | None]:
    return train_tokens_cost(_study(text), number)
