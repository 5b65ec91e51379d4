"""What every page is made with."""

from __future__ import annotations

import json
import re

import jinja2
import pytest

from clustersim.report import page


def test_a_value_that_nobody_gave_is_refused():
    with pytest.raises(jinja2.UndefinedError, match="summary"):
        page.render("claims.html", title="a", findings=[])


def test_figures_cannot_end_their_script_and_text_stays_text():
    hostile = "</script><script>alert(1)</script> & <b>"
    figures = {"plot": {"title": hostile}}
    text = page.render(
        "tradeoff.html", title=hostile, description="", headline="", answer="", spent=[], tiles=[], sure=[], measure=[],
        rests=[], warnings=[], plots=[], plan_names=[], plan_rows=[], reasons=[], seed=0, figures=figures,
    )  # fmt: skip
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    stored = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.S)
    assert json.loads(stored.group(1)) == figures


def test_no_words_bring_in_the_script_of_plots():
    assert len(page.render("claims.html", title=page._PLOTLY, summary=page._PLOTLY, findings=[])) < 100_000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_lacks_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        page._script_json({"y": [value]})
