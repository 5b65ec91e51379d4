"""The comparison as one HTML file that needs nothing else: no server, no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clustersim.report import compare_plots as plots
from clustersim.report import compare_story as story
from clustersim.report import compare_words as say
from clustersim.report import words
from clustersim.report.compare_console import value, verdict
from clustersim.report.page import render
from clustersim.study.compare import Comparison
from clustersim.study.compare.entries import Entry
from clustersim.study.compare.objective import better


def html(found: Comparison) -> str:
    """Return the page: the answer, how sure it is and what it rests on; then metrics, differences, shares, settings."""
    forest, intervals = plots.differences(found), list(plots.metrics(found))
    figures = {plot["id"]: plot for plot in ([forest] if forest else []) + intervals}
    return render(
        "compare.html",
        title=" or ".join(words.clean(entry.name) for entry in found.entries),
        entries=[_entry(found, entry) for entry in found.entries],
        letters=[entry.letter for entry in found.entries],
        headline=story.headline(found),
        by=f"{say.name(found.by)}, {better(found.by)} is better",
        answer=" ".join(story.answer(found)),
        sure=list(story.how_sure(found)),
        rests=list(story.rests(found)),
        balance=[*story.balance(found), *story.quality(found)],
        warnings=list(story.warnings(found)),
        ranking=_ranking(found),
        metrics=_metrics(found),
        forest=forest,
        intervals=intervals,
        stacks=[_stacks(found, *each) for each in _STACKS],
        settings=[(row.path, *row.values) for row in found.settings],
        unlike=[row.path for row in found.unlike_demand],
        seeds=found.seeds,
        figures=figures,
    )


_STACKS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("time_by_part", "Where a token's time goes", words.PARTS),
    ("time_by_evidence", "What the step time rests on", tuple(words.EVIDENCE)),
)


def _entry(found: Comparison, entry: Entry) -> dict[str, Any]:
    regimes = found.regimes(entry)
    return {
        "letter": entry.letter,
        "color": plots.color(found, entry),
        "name": words.clean(entry.name),
        "fleet": words.clean(words.fleet(entry.scenario)),
        "regime": next(iter(regimes)),
        "regimes": ", ".join(f"{num} x {name.replace('_', ' ')}" for name, num in regimes.items()),
    }


def _ranking(found: Comparison) -> list[dict[str, Any]]:
    best = found.ranking[0].entry if found.ranking[0].rank else None
    rows = []
    for place in found.ranking:
        own = found.intervals[place.entry.letter].get(found.by, {})
        told = place.why_not
        if place.rank is not None and best is not None and place.entry is not best:
            told = verdict(found, best, place.entry)
        rows.append(
            {
                "rank": place.rank or "-", **_entry(found, place.entry),
                "mean": value(found, place.entry, found.by),
                "interval": say.interval(found.by, own.get("low"), own.get("high")), "told": told,
            }
        )  # fmt: skip
    return rows


def _metrics(found: Comparison) -> list[dict[str, Any]]:
    """Return a row a metric: the scenarios' means with intervals, and how each differs from the first."""
    first = found.entries[0]
    rows = []
    for metric in found.shown:
        cells = []
        for entry in found.entries:
            own = found.intervals[entry.letter].get(metric, {})
            told = "" if entry is first else verdict(found, first, entry, metric)
            cells.append(
                {"value": value(found, entry, metric), "told": told,
                 "interval": say.interval(metric, own.get("low"), own.get("high"))}
            )  # fmt: skip
        rows.append({"name": say.name(metric), "key": metric, "cells": cells})
    return rows


def _stacks(found: Comparison, key: str, title: str, order: Sequence[str]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for entry in found.entries:
        shares = story.shares(found, entry, key)
        parts = [
            {"name": part, "color": part, "share": shares[part], "text": words.percent(shares[part])}
            for part in order if shares.get(part)
        ]  # fmt: skip
        rows.append({"letter": entry.letter, "parts": parts})
    names = [part for part in order if any(part == each["name"] for row in rows for each in row["parts"])]
    return {"title": title, "rows": rows, "names": names}
