"""The report as one HTML file that needs nothing else: no server, no network."""

from __future__ import annotations

from typing import Any

from clustersim.report import (
    fleet,
    notes,
    plots,
    sources,
    story,
    task_plots,
    task_sources,
    tasks,
    tenants,
    words,
)
from clustersim.report.page import pieces, render
from clustersim.report.tasks import TaskView
from clustersim.results.result import Result
from clustersim.scenario.plan import DeploymentPlan


def html(result: Result) -> str:
    """Return the page: what was asked, the answer with its caveats, key numbers, plots, every source, how to repeat."""
    return render("report.html", **_values(result))


def html_pieces(result: Result) -> list[bytes]:
    """Return the page in UTF-8, in pieces that follow one another."""
    return pieces("report.html", **_values(result))


def _values(result: Result) -> dict[str, Any]:
    deployments = [_deployment(result, plan) for plan in result.plans]
    of_tasks = [_tasks(view) for view in tasks.views(result)]
    figures = {plot["id"]: plot for each in (*of_tasks, *deployments) for plot in each["plots"]}
    return {
        "title": words.clean(result.scenario.name),
        "description": result.scenario.description,
        "asked": story.asked(result),
        "tasks": of_tasks,
        "deployments": deployments,
        "replications": story.replications(result),
        "warnings": list(notes.warnings(result)),
        "regime_rule": result.metrics["regime_rule"],
        "evidence": words.EVIDENCE,
        "tenant_columns": tenants.COLUMNS,
        "seed": result.seed,
        "replicated": _replicated(result),
        "figures": figures,
    }


def _deployment(result: Result, plan: DeploymentPlan) -> dict[str, Any]:
    name = plan.deployment.name
    metrics = result.metrics["deployments"][name]
    drawn = [
        {"id": f"plot-{plan.index}-{number}", **plot} for number, plot in enumerate(plots.plots(result, plan))
    ]
    profile = plan.profile
    return {
        "name": name,
        "regime": metrics["regime"],
        "answer": " ".join(story.answer(result, plan)),
        "caveats": " ".join(story.caveats(metrics, "replications" in result.metrics)),
        "tiles": list(story.tiles(result, plan)),
        "plots": drawn,
        "fleet": list(fleet.figures(metrics, fleet.of(result, plan))),
        "fleet_bars": fleet.bars(metrics),
        "bars": plots.bars(result, plan),
        "operators": plots.operators(metrics),
        "tenants": tenants.tenants(result, plan),
        "sources": sources.sources(plan),
        "profile": f"{profile.device} / {profile.name}: {_provenance(plan)}",
        "profile_caveats": profile.provenance.caveats,
    }


def _tasks(view: TaskView) -> dict[str, Any]:
    return {
        "name": view.workload.name,
        "regime": view.regime,
        "answer": " ".join(tasks.answer(view)),
        "caveats": " ".join(task_sources.sentences(view)),
        "tiles": list(tasks.tiles(view)),
        "plots": [
            {"id": f"tasks-{view.index}-{number}", **plot}
            for number, plot in enumerate(task_plots.plots(view))
        ],
        "bars": task_plots.bars(view),
        "sources": task_sources.sources(view),
    }


def _provenance(plan: DeploymentPlan) -> str:
    origin = plan.profile.provenance
    rows = f", {origin.num_rows:,} rows" if origin.num_rows else ""
    return f"{origin.package}, {origin.engine} {origin.engine_version}{rows}, {origin.date}"


def _replicated(result: Result) -> str:
    seeds = result.metrics.get("replications", {}).get("seeds", [])
    return f" --replications {len(seeds)}" if seeds else ""
