"""Metrics of tasks in replications, assertions and lists."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import clustersim as cs
from clustersim import library
from clustersim.errors import InputError
from clustersim.kinds import kinds
from clustersim.report.tables import replications_table
from clustersim.study.assertions import parse
from clustersim.study.catalogue import catalogue


@pytest.fixture(scope="module")
def several():
    scenario = cs.load("best_of_n", ["horizon=4 min", "warm_up=none"])
    return cs.replicate(scenario, 2, processes=1)


def test_tasks_have_intervals_at_the_top_and_by_workload(several):
    found = several.intervals
    for key in ("accuracy", "usd_per_solved", "p50_task_e2el_ms", "task_goodput_frac"):
        each = [metrics["tasks"]["questions"][key] for metrics in several.metrics]
        assert found[f"tasks.questions.{key}"]["mean"] == pytest.approx(sum(each) / 2)
        assert found[key] == found[f"tasks.questions.{key}"]
    out = Console(file=io.StringIO(), width=120)
    out.print(replications_table(found))
    assert "usd_per_solved" in out.file.getvalue()


def test_means_stand_in_place_of_the_first_run(several):
    means = several.means(several.metrics[0])
    assert means["tasks"]["questions"]["accuracy"] == several.intervals["accuracy"]["mean"]
    assert (
        means["deployments"]["policy"]["utilisation"]
        == several.intervals["deployments.policy.utilisation"]["mean"]
    )
    assert means["scenario"] == several.metrics[0]["scenario"]
    assert means["tasks"]["questions"]["accuracy_rests_on"] == several.metrics[0]["tasks"]["questions"][
        "accuracy_rests_on"
    ]  # fmt: skip


def test_conditions_on_tasks(several):
    metrics = several.means(several.metrics[0])
    assert parse("accuracy>=0").failure(metrics) is None
    assert parse("tasks.questions.usd_per_task<1").failure(metrics) is None
    assert "accuracy is" in (parse("tasks.questions.accuracy>1").failure(metrics) or "")
    with pytest.raises(InputError, match="usd_per_task"):
        parse("usd_per_tasks<1").failure(metrics)


def test_lists_of_strategies_and_benchmarks():
    assert [row["kind"] for row in catalogue("strategies")] == list(kinds("strategy"))
    rows = {row["name"]: row for row in catalogue("benchmarks")}
    assert tuple(rows) == library.names("benchmarks")
    assert "deepseek-r1 79.8%" in rows["aime24"]["anchors"]
    assert {row["name"] for row in catalogue("trained_models")} == set(library.names("trained_models"))
