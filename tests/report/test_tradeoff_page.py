"""The page of a tradeoff study in a real browser: drawn whole, alone, at any width."""

from __future__ import annotations

import pytest

import clustersim as cs
from clustersim.report.tradeoff_html import html

SMALL = (
    "sizes=[4e9, 36e9]", "thinking=[500, 4500]", "strategies.vote_8.n=4", "training.accelerators=[1024]",
    "serving.tasks=60", "target.accuracy=0.5", "draws=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def page_text() -> str:
    return html(cs.tradeoff("train_or_think", settings=SMALL, processes=1))


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_it_is_drawn_whole_and_alone(page_text, width, scheme, show):
    page = show(page_text, width, scheme)
    assert page.locator(".plot .main-svg").count() >= 9
