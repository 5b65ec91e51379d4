"""The comparison as people meet it: words, page in a real browser, folder whole or not at all."""

from __future__ import annotations

import json
import re
from io import StringIO

import pandas as pd
import pytest
from conftest import HOSTILE, Words, drawings, workload
from rich.console import Console

import clustersim as cs
from clustersim.errors import InputError
from clustersim.report import compare_plots, compare_story, folder
from clustersim.report import compare_words as say
from clustersim.report.compare_console import summary
from clustersim.report.compare_folder import check, default_folder, write
from clustersim.report.compare_html import html
from clustersim.study.compare.statistics import MANY, Difference
from clustersim.yaml_file import Document


def small(name="small", **changes):
    from clustersim.scenario.load import parse

    data = {
        "name": name,
        "horizon": "20 s",
        "fleet": [{"site": "us-iowa", "clusters": [{"name": "c", "node": "hgx-h100", "count": 1}]}],
        "deployments": [
            {"name": "d", "model": "llama-3.1-8b", "on": "c", "replicas": 2, **changes.pop("deployment", {})}
        ],
        "workload": workload("20 req/s"),
        **changes,
    }
    return parse(Document(data))


@pytest.fixture(scope="session")
def several():
    """Four scenarios: one hostile in name, one alike, one that is overloaded, one that is asked less."""
    return cs.compare(
        small(HOSTILE), small("wide", deployment={"parallelism": {"tp": 4}}),
        small("rush", workload=workload("400 req/s")), small("few", deployment={"scheduler": {"kind": "chunked_prefill", "max_num_seqs": 200}}),
        replications=3, processes=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def bought():
    """Two at equal cost."""
    return cs.compare(small("h100"), small("b200", fleet=[{"site": "us-iowa", "clusters": [{"name": "c", "node": "hgx-b200"}]}]),
                      replications=3, equal="cost", metrics=["mean_power_w"], processes=1)  # fmt: skip


def printed(found):
    console = Console(width=100, record=True, file=StringIO())
    console.print(summary(found))
    return re.sub(r"\s+", " ", console.export_text())


def test_the_terminal_says_what_the_page_says(several):
    text, page = printed(several), Words(html(several)).text
    for part in (
        "does not keep up: OVERLOADED in 3 of 3 replications", "joint 95 % intervals of all 6 pairs (Bonferroni)",
        "Not like for like", "workloads.0.arrivals.rate", "operator model ±", "3 replications are few", "unbounded",
    ):  # fmt: skip
        assert part in text, part
        assert part in page, part


def test_an_unbounded_tail_is_no_number(several):
    page = Words(html(several)).text
    assert page.count("unbounded") >= 4
    plot = next(each for each in compare_plots.metrics(several) if "TTFT" in each["head"])
    assert [line["name"] for line in plot["traces"]] == ["A", "B", "D"]
    assert plot["note"] == "Without a value: C unbounded."
    assert [line["name"] for line in compare_plots.differences(several)["traces"]] == ["B", "D"]


def test_names_stay_text(several):
    page = html(several)
    assert "<script>alert" not in page
    assert 'alert("x")' in Words(page).text


def test_equal_cost_says_how_equal(bought):
    lines = list(compare_story.balance(bought))
    assert lines[0].startswith("Equal cost, $")
    assert "same demand" in lines[0]
    assert lines[1].startswith("A 2 replicas = $")
    assert re.match(r"B 1 replica = \$[\d.]+/s, [+-][\d.]+ %", lines[2])
    assert "Mean power" in printed(bought)


def test_the_answer_is_in_the_headline(bought):
    best = bought.ranking[0]
    assert compare_story.headline(bought) in (f"{best.entry.letter} is best", "A and B are not told apart")
    assert "Capacity" in " ".join(compare_story.answer(bought))


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.6, 0.7, "30 to 40 % less"), (1.012, 1.08, "1.2 to 8 % more"), (0.988, 1.008, "1.2 % less to 0.8 % more"),
        (2.5, 3.5, "2.5 to 3.5 times as much"), (0.5, 4.0, "50 % less to 4 times as much"),
    ],
)  # fmt: skip
def test_intervals_of_ratios_in_words(low, high, says):
    assert say.changes(low, high) == says


def test_a_pair_read_the_other_way_round():
    each = Difference("usd", "A", "B", "real", 1.0, 0.5, 1.5, 2.0, 1.6, 2.5)
    assert say.ratios(each, "A") == (2.0, 1.6, 2.5)
    assert say.ratios(each, "B") == (0.5, 0.4, 0.625)


def test_further_replications_in_words():
    def pair(more):
        return Difference("usd", "A", "B", "not told apart", 1.0, -1.0, 2.0, more_replications=more)

    assert "about 1 more replication would" in say.further(pair(1))
    assert "about 1,200 more replications would" in say.further(pair(1200))
    assert "no number of replications" in say.further(pair(MANY - 3))


def test_names_and_figures():
    assert say.name("p99_ttft_ms") == "TTFT p99"
    assert say.name("deployments.chat.usd") == "chat: Cost of the window"
    assert say.name("tasks.maths.accuracy") == "maths: Tasks answered rightly"
    assert say.name("p99_task_e2el_ms") == "E2EL of tasks p99"
    assert say.name("num_preemptions") == "num_preemptions"
    assert say.figure("p99_ttft_ms", 1500.0) == "1.5 s"
    assert say.figure("goodput_frac", 0.934) == "93.4 %"


def test_the_folder_reproduces_and_is_replaced(bought, tmp_path):
    paths = write(bought, tmp_path / "out")
    assert sorted(path.name for path in paths) == sorted(path.name for path in (tmp_path / "out").iterdir())
    before = {path.name: path.read_bytes() for path in paths}
    write(bought, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in paths} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    again = cs.compare(tmp_path / "out/A.yaml", tmp_path / "out/B.yaml", replications=3, processes=1)
    stored = json.loads(before["comparison.json"], parse_constant=pytest.fail)
    assert again.intervals["B"]["p99_ttft_ms"] == stored["intervals_95"]["B"]["p99_ttft_ms"]
    assert len(pd.read_parquet(tmp_path / "out/replications.parquet")) == 6
    assert default_folder(bought).name.startswith("compare-h100-b200-")


def test_a_failure_leaves_nothing(bought, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "write_parquet", fail)
    with pytest.raises(KeyboardInterrupt):
        write(bought, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_no_comparison_wrote_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text("{}")
    with pytest.raises(InputError, match="give another folder"):
        check(tmp_path / "run")


@pytest.mark.browser
@pytest.mark.parametrize("name", ["several", "bought"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_it_is_drawn_whole_and_alone(name, width, scheme, request, show):
    found = request.getfixturevalue(name)
    page = show(html(found), width, scheme)
    drawn = drawings(page)
    assert len(drawn) == len(list(compare_plots.metrics(found))) + 1
    assert all(drawn)
    unlabelled = page.evaluate(
        "[...document.querySelectorAll('[role=img]')].filter(e => !e.getAttribute('aria-label')).length"
    )
    assert unlabelled == 0
