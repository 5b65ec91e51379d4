"""The summary in a terminal: what it says of a run that keeps up, of one that does not, of one that rejects."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from clustersim.report.console import print_summary
from clustersim.report.words import count, latency, number, percent, span, usd
from clustersim.results.result import Result


def text(result: Result, width: int = 100, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    paths = [Path("out/x/result.json"), Path("out/x/report.html")]
    print_summary(result, Console(file=stream, width=width, color_system=None), paths)
    stream.seek(0)
    return stream.read()


def words_of(result: Result) -> str:
    return " ".join(text(result).split())


def test_a_run_that_keeps_up(stable):
    shown = words_of(stable)
    for part in ("STABLE", "1 min", "TTFT", "E2EL", "goodput", "TTFT < 1 s, TPOT < 50 ms", "tok/s/GPU",
                 "per Mtok output", "J per output token", "Time of a token: HBM", "Rests on:", "80 % interval",
                 "operator model alone", "6 accelerators of the fleet belong to no deployment",
                 "out/x/report.html result.json"):  # fmt: skip
        assert part in shown, part
    assert "unbounded" not in shown


def test_an_overloaded_run_gives_no_number_for_its_tail(overloaded):
    assert overloaded["regime"] == "OVERLOADED"
    shown = text(overloaded)
    tail = next(line for line in shown.splitlines() if "p99" in line)
    assert tail.count("unbounded") == 3
    assert latency(overloaded.metrics, "ttft", "p99") == "unbounded"
    assert latency(overloaded.metrics, "e2el", "p99") == "unbounded"
    assert "OVERLOADED: requests come faster than they are served" in words_of(overloaded)


def test_a_run_that_rejects_all_says_so(rejecting):
    shown = text(rejecting)
    total = rejecting["num_requests"]
    assert f"rejected {total:,} of {total:,} requests" in shown
    assert "n/a" in shown
    assert "nan" not in shown
    assert "unbounded" not in shown


@pytest.mark.parametrize(
    "name", ["stable", "overloaded", "rejecting", "rich_one", "tasked", "anchored", "tasks_overloaded"]
)
@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(name, width, request):
    lines = text(request.getfixturevalue(name), width).splitlines()
    assert max(map(len, lines)) <= min(width, 100)
    edges = [line.rstrip() for line in lines if line.lstrip().startswith(("┌", "└", "│"))]
    assert len({len(line) for line in edges}) == 1


def test_tasks_come_first_with_what_they_cost(tasked):
    shown = words_of(tasked)
    m = tasked.metrics["tasks"]["puzzles"]
    assert f"{m['num_tasks']:,} tasks" in shown
    low, high = (f"{limit * 100:.0f}" for limit in m["accuracy_95"])
    for part in (f"{m['accuracy'] * 100:.0f} % [{low} to {high} %] right", "tasks of puzzles", "best of n (n 4)",
                 "checked by judge, which accepts 90 % of right and 20 % of wrong answers",
                 f"goodput {m['task_goodput_frac'] * 100:.1f} % of tasks within TTFO < 3 s, E2EL < 10 s",
                 f"{usd(m['usd_per_task'])} a task", f"{usd(m['usd_per_solved'])} a task solved", "thrown away",
                 "a plain attempt of policy is right at 40.0 %, assumed", "of chance alone"):  # fmt: skip
        assert part.lower() in shown.lower(), part
    assert shown.index("tasks of puzzles") < shown.index("policy")
    assert "no SLO given" not in shown.split("tasks of puzzles")[1]


def test_an_anchor_is_named_with_its_band(anchored):
    shown = words_of(anchored)
    assert "90 % band]" in shown
    assert "anchored by r1-distill-qwen-32b 73.7%" in shown


def test_tasks_of_an_overloaded_run_have_no_latency(tasks_overloaded):
    assert tasks_overloaded["regime"] == "OVERLOADED"
    shown = text(tasks_overloaded)
    panel = shown[: shown.index("└")]
    assert panel.count("unbounded") == 4
    assert "accuracy not known OVERLOADED" in panel
    assert "nan" not in panel


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_other_terminals_can_show_it(rich_one, encoding):
    shown = text(rich_one, encoding=encoding)
    assert "STABLE" in shown
    assert "[red]" in shown


def test_names_cannot_move_the_cursor(stable):
    scenario = stable.scenario.model_copy(update={"name": "a\x1b[2Jb\nc"})
    shown = text(Result(**{**vars(stable), "scenario": scenario}))
    assert "\x1b" not in shown
    assert "a [2Jb c" in shown


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (span(3600), "1 h"), (span(600), "10 min"), (span(90), "90 s"), (span(0.05), "50 ms"), (span(172800), "2 d"),
        (usd(None), "n/a"), (usd(0.0046), "$0.0046"), (usd(2.337), "$2.34"), (usd(1250), "$1,250"),
        (number(1234.5), "1,234"), (number(0.1353), "0.135"), (number(99.96), "100"), (number(None), "n/a"),
        (percent(0.001), "<1 %"), (percent(0.0), "0 %"), (percent(0.832), "83 %"),
        (count(57612), "57,612"), (count(88.14e6), "88.1 M"),
    ],
)  # fmt: skip
def test_figures_read_well(shown, expected):
    assert shown == expected
