"""The study's file, its errors, a whole run on few cells, its report, and the command."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from rich.console import Console
from toy_tradeoff import by_flops, study

import clustersim as cs
from clustersim import library
from clustersim.cli import cli
from clustersim.errors import InputError
from clustersim.quality.solver import MODES
from clustersim.report.tradeoff_console import print_tradeoff
from clustersim.report.tradeoff_folder import write
from clustersim.report.tradeoff_html import html
from clustersim.study.tradeoff import Tradeoff, load_study
from clustersim.study.tradeoff.answer import ANY, answer
from clustersim.study.tradeoff.replica import Cell
from clustersim.study.tradeoff.serving import measure

#: Few and cheap cells: two sizes, two lengths, one fleet.
SMALL = (
    "sizes=[4e9, 36e9]", "thinking=[500, 2000]", "strategies={single: chain_of_thought}", "training.accelerators=[1024]",
    "policies={train_more: {strategies: [single], max_thinking: 700}, think_longer: {strategies: [single], min_thinking: 1500}}",
    "serving.tasks=60", "target.accuracy=0.5", "draws=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> Tradeoff:
    return cs.tradeoff("train_or_think", settings=SMALL, processes=1)


def test_a_study_is_no_scenario_and_the_other_way_round() -> None:
    assert "train_or_think" in library.names("studies")
    assert "train_or_think" not in library.names("scenarios")
    with pytest.raises(InputError, match="is a study: clustersim tradeoff"):
        cs.load(str(library.find("studies", "train_or_think")))
    with pytest.raises(InputError, match="no tradeoff study"):
        load_study(library.find("scenarios", "chat_h100"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("demand.querys_per_day=1", 'no key "querys_per_day". Did you mean "queries_per_day"'),
        ("sizes=[2e9, 1e9]", "sizes must rise"),
        ("target.benchmark=aime42", "aime24"),
        ("target.like=gpt-9", "trained_model"),
        ("slo={quantile: 0.9}", "at least one of"),
        ("strategies.single={kind: debate}", "no closed form"),
        ("strategies.single={kind: chain_of_thought, scale: 2}", "leave out `scale`"),
        ("policies.train_more.strategies=[none]", "no strategy"),
        ("policies.train_more.max_thinking=10", "outside of what is simulated"),
        ("training.error={low: 2, high: 3}", "less than or equal to 1"),
    ],
)
def test_mistakes_are_answered_with_place_and_mend(setting: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_study("train_or_think", [setting])
    assert said in str(caught.value)
    assert "train_or_think.yaml" in str(caught.value) or "--set" in str(caught.value)


def test_an_slo_that_nothing_meets_is_said() -> None:
    with pytest.raises(InputError, match="no model of the study meets the SLO"):
        cs.tradeoff("train_or_think", settings=[*SMALL, "slo={e2el: 10 ms}"], processes=1)


def test_a_whole_run_agrees_with_itself(found: Tradeoff) -> None:
    again = cs.tradeoff("train_or_think", settings=SMALL, processes=1)
    assert again.as_json() == found.as_json()
    assert all(not each.why_not for each in found.carried)
    for mode in MODES:
        best = found.answers[mode].choices[ANY]
        assert best is not None
        assert best.usd == pytest.approx(best.pretrain_usd + best.rl_usd + best.serving_usd)
    cells = found.cells.set_index(["size", "thinking_tokens"])["usd_per_task"]
    assert cells[4e9, 500] < cells[4e9, 2000] < cells[36e9, 2000]


def test_a_replica_that_must_be_faster_carries_less() -> None:
    loose, tight = (
        measure(
            load_study("train_or_think", [*SMALL, f"slo={{tpot: {limit}}}"]),
            Cell(36e9, "single", 500, 0.5),
            0,
        )
        for limit in ("40 ms", "15 ms")
    )
    per = [each.tasks_per_s / each.accelerators for each in (loose, tight)]
    assert per[0] > per[1]


def test_seeds_agree_within_the_band() -> None:
    """Draws of three seeds on one set of costs: the same optimum, chances within what draws can tell."""
    asked = study("draws=300")
    made = by_flops(asked)
    answers = [answer(asked, made, "log_compute", seed) for seed in range(3)]
    best = [each.choices[ANY] for each in answers]
    assert best[0] == best[1] == best[2]
    chances = [each.cheaper_asked for each in answers]
    assert max(chances) - min(chances) < 0.12  # four standard errors of 300 draws
    for each in answers:
        band = each.bands["usd"]
        assert band.low < band.best < band.high


def test_the_report_holds_everything_and_appears_whole(found: Tradeoff, tmp_path: Path) -> None:
    page = html(found)
    assert "Measure first" in page
    assert page.count('class="plot own"') == 9
    out = tmp_path / "out"
    paths = write(found, out)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in paths)
    data = json.loads((out / "tradeoff.json").read_text())
    assert set(data["answers"]) == set(MODES)
    assert len(pd.read_parquet(out / "cells.parquet")) == len(found.carried)
    assert load_study(out / "study.yaml") == found.study
    printed = StringIO()
    print_tradeoff(found, Console(width=104, file=printed), paths)
    text = printed.getvalue()
    assert "How sure:" in text
    assert "Measure first:" in text
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(InputError):
        write(found, tmp_path / "full")


def test_the_command_refuses_with_two_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["tradeoff", "train_or_thing"])
    assert isinstance(result.exception, InputError)
    assert 'Did you mean "train_or_think"' in str(result.exception)
    assert not list(tmp_path.iterdir())
    assert "Examples:" in CliRunner().invoke(cli, ["tradeoff", "--help"]).output
