"""The page of a tradeoff study in a real browser: drawn whole, alone, at any width."""

from __future__ import annotations

import pytest
from test_html import browser  # noqa: F401 - a fixture

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
def test_it_is_drawn_whole_and_alone(page_text, width, scheme, browser, tmp_path):  # noqa: F811 - the fixture
    path = tmp_path / "tradeoff.html"
    path.write_text(page_text, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    try:
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=20_000)
        assert said == []
        assert asked == [path.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".plot .main-svg").count() >= 9
    finally:
        page.close()
