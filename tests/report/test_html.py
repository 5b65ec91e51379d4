"""The page: opened in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

import pytest
from conftest import Words, drawings

from clustersim.report import task_plots, task_sources
from clustersim.report.html import html
from clustersim.report.plots import MAX_POINTS, Plot, plots
from clustersim.report.sources import sources
from clustersim.report.tasks import views
from clustersim.report.words import usd
from clustersim.results.result import Result

RUNS = ("stable", "overloaded", "rejecting", "rich_one", "tasked", "anchored", "tasks_overloaded")


def every_plot(result: Result) -> list[Plot]:
    """Return the plots of a page."""
    mine = [plot for view in views(result) for plot in task_plots.plots(view)]
    return mine + [plot for plan in result.plans for plot in plots(result, plan)]


def test_it_answers_in_words(stable):
    text = Words(html(stable)).text
    for part in ("d keeps up", "What was asked", "Figures and their sources", "h100-sxm", "us-iowa", "Run it again",
                 "--seed 0", "operator model alone", "sampling error is not shown"):  # fmt: skip
        assert part in text, part


def test_an_overloaded_page_gives_no_number_for_its_tail(overloaded):
    text = Words(html(overloaded)).text
    assert "does not keep up" in text
    assert text.count("p99 unbounded") == 3


def test_a_run_that_finishes_nothing_is_not_said_to_keep_up(rejecting):
    text = Words(html(rejecting)).text
    assert "d finished none of the requests" in text
    assert "keeps up" not in text


def test_tasks_are_answered_in_words(tasked):
    m = tasked.metrics["tasks"]["puzzles"]
    text = Words(html(tasked)).text
    low, high = (f"{limit * 100:.0f}" for limit in m["accuracy_95"])
    for part in ("Tasks of puzzles", "Best of n (n 4), checked by judge", f"a task costs {usd(m['usd_per_task'])}",
                 f"{m['accuracy'] * 100:.0f} % [{low} to {high} %] are right", "one plain attempt:",
                 "of the tokens are thrown away", "Accuracy by difficulty", "Where the tokens go",
                 "What the accuracy rests on", "correlation of difficulty and length", "false accept",
                 "Each arrival is a task", "as given in the scenario"):  # fmt: skip
        assert part in text, part


def test_what_the_accuracy_rests_on_has_evidence(tasked, anchored):
    own = {row.figure: row for row in task_sources.sources(views(tasked)[0])}
    assert own["accuracy of a plain attempt"].evidence == "assumed"
    assert own["spread of ln(thinking) between attempts"].source == "the default; no measurement found"
    assert own["true accept"].source == "as given in the scenario"
    known = {row.figure: row for row in task_sources.sources(views(anchored)[0])}
    assert "anchored by" in known["accuracy of a plain attempt"].source
    assert known["how alike problems are (nu)"].value == "1.2 [0.8 to 2.5]"


def test_tasks_of_an_overloaded_run_have_no_latency(tasks_overloaded):
    text = Words(html(tasks_overloaded)).text
    tiles = text[text.index("Answered rightly") : text.index("Given up")]
    assert tiles.count("unbounded") == 4
    assert "how often its answer is right nobody said" in text
    assert "What the accuracy rests on" not in text


def test_names_stay_text(rich_one):
    page = html(rich_one)
    assert "<script>alert" not in page
    assert 'alert("x")' in Words(page).text
    assert "{{ 7 * 7 }}" in page


def test_replications_are_shown(stable):
    interval = {"mean": 1000.0, "low": 990.0, "high": 1010.0, "n": 5}
    several = {
        "seeds": [0, 1, 2, 3, 4],
        "intervals_95": {"p50_ttft_ms": interval, "p99_ttft_ms": dict.fromkeys(interval)},
    }
    text = Words(
        html(Result(**{**vars(stable), "metrics": {**stable.metrics, "replications": several}}))
    ).text
    assert "5 replications" in text
    assert "990 to 1,010" in text
    assert "sampling error is not shown" not in text


@pytest.mark.parametrize("name", RUNS)
def test_no_line_has_too_many_points(name, request):
    result = request.getfixturevalue(name)
    for plot in every_plot(result):
        for line in plot["traces"]:
            assert len(line["x"]) == len(line["y"]) <= MAX_POINTS


def test_every_figure_has_evidence_and_source(rich_one):
    for plan in rich_one.plans:
        rows = sources(plan)
        assert {row.thing.split()[0] for row in rows} >= {
            "accelerator",
            "node",
            "site",
            "price",
            "engine",
            "operator",
        }
        assert all(row.evidence and row.source for row in rows)
    values = {
        row.figure: row.value for row in sources(rich_one.plans[0]) if row.thing == "accelerator h100-sxm"
    }
    assert values["memory bandwidth"] == "3.35 TB/s"
    assert any(row.thing == "link nvlink4" for row in sources(rich_one.plans[1]))


@pytest.mark.browser
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_it_is_drawn_whole_and_alone(name, width, scheme, request, show):
    result = request.getfixturevalue(name)
    page = show(html(result), width, scheme)
    drawn = drawings(page)
    assert len(drawn) == len(every_plot(result))
    assert all(drawn)
    lines = sum(len(plot["traces"]) for plot in every_plot(result))
    assert page.evaluate("document.querySelectorAll('.plot .scatterlayer .trace').length") == lines
    uncoloured = page.evaluate(
        "[...document.querySelectorAll('.stack span, .key i')]"
        ".filter(e => getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)').length"
    )
    assert uncoloured == 0
