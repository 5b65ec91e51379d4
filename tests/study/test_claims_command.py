"""`clustersim claims` as a person or a script meets it, and the table in the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clustersim.cli import cli
from clustersim.errors import InputError
from clustersim.report.claims_html import markdown
from clustersim.study.claims import check, load_claims

PAGE = Path(__file__).parents[2] / "docs" / "background" / "claims.md"


def claims(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["claims", "--quiet", *arguments])


def test_the_table_says_what_was_said_found_and_judged() -> None:
    answer = claims("A2", "a8")
    assert answer.exit_code == 0
    for text in (
        "1,000x in 5 years",
        "243x",
        "does not hold",
        "3,420 USD",
        "2 claims: 0 holds, 1 holds under",
    ):
        assert text in answer.stdout


def test_explain_shows_the_derivation_with_numbers() -> None:
    answer = claims("explain", "A8")
    assert answer.exit_code == 0
    for text in (
        "yearly ** years",
        "3 ** 5",
        "243x",
        "6.288",
        "Verdict: does not hold.",
        "three by algorithms",
    ):
        assert text in answer.stdout


def test_json_has_every_step() -> None:
    (row,) = json.loads(claims("A8", "--json").stdout)
    assert row["verdict"] == "does not hold"
    assert row["steps"]["factor"]["value"] == pytest.approx(243)
    assert row == json.loads(claims("A8", "--format", "json").stdout)[0]


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = tmp_path / "claims.html"
    assert claims("A8", "B2", "--html", str(page)).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "does not hold" in text
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)


def test_a_value_unlike_that_by_hand_exits_with_three(tmp_path: Path) -> None:
    from clustersim import library

    path = tmp_path / "mine.yaml"
    path.write_text(
        library.find("claims", "A8")
        .read_text(encoding="utf-8")
        .replace("by_hand: 243", "by_hand: 244.0001e1")
    )
    answer = claims(str(path))
    assert answer.exit_code == 3
    assert "claim A8: factor is 243x, by hand 2,440x" in answer.stderr


def test_mistakes() -> None:
    assert claims("explain").exit_code == 2
    unknown = claims("A88")
    assert isinstance(unknown.exception, InputError)
    assert "no claim" in str(unknown.exception)


@pytest.mark.slow
def test_the_table_in_the_documentation_is_that_of_the_code() -> None:
    findings = check(load_claims())
    assert [(each.claim.id, line.step.name) for each in findings for line in each.off_hand] == []
    table = PAGE.read_text(encoding="utf-8").split("<!-- claims -->\n")[1].split("\n<!-- /claims -->")[0]
    assert table == markdown(findings), "renew it: .venv/bin/python tests/docs/refresh_claims.py"
