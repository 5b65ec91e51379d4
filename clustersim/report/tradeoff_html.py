"""A tradeoff study as one HTML file that needs nothing else: no server, no network."""

from __future__ import annotations

from clustersim.quality.solver import MODES
from clustersim.report import tradeoff_plots as plots
from clustersim.report import tradeoff_story as story
from clustersim.report import tradeoff_words as say
from clustersim.report import words
from clustersim.report.page import render
from clustersim.report.tradeoff_console import ROWS, columns
from clustersim.study.tradeoff import Tradeoff
from clustersim.study.tradeoff.answer import ANY


def html(found: Tradeoff) -> str:
    """Return the page: the answer, how sure it is, what to measure and what it rests on; then plots and plans."""
    drawn = plots.plots(found)
    shown = columns(found)
    return render(
        "tradeoff.html",
        title=words.clean(found.study.name),
        description=words.clean(found.study.description),
        headline=story.headline(found),
        answer=" ".join(story.answer(found)),
        spent=[
            (mode, story.spent(best))
            for mode in MODES
            if (best := found.answers[mode].choices[ANY]) is not None
        ],
        tiles=_tiles(found),
        sure=list(story.how_sure(found)),
        measure=list(story.measure_first(found, 5)),
        rests=list(story.rests(found)),
        warnings=list(story.warnings(found)),
        plots=drawn,
        plan_names=[name for name, _ in shown],
        plan_rows=[[label, *(value(plan) if plan else "-" for _, plan in shown)] for label, value in ROWS],
        reasons=story.reasons(found),
        seed=found.seed,
        figures={plot["id"]: plot for plot in drawn},
    )


def _tiles(found: Tradeoff) -> list[tuple[str, str, str]]:
    second = say.policy(found.names[1])
    tiles = []
    for mode, each in found.answers.items():
        tiles.append((f"{second} is cheaper, {mode}", say.chance(each.cheaper_asked), "chance"))
        tiles.append((f"crossover, {mode}", say.demand(each.crossover.best), "queries a day"))
    return tiles
