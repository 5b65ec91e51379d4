"""What the report's tests share: small runs (one keeps up, one does not, one rejects ...), and pages as people see them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from clustersim.results.result import Result
from clustersim.scenario.load import parse
from clustersim.simulation import simulate
from clustersim.yaml_file import Document

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
HOSTILE = '</script><script>alert("x")</script> & {{ 7 * 7 }} [red]é'


def run(**changes: Any) -> Result:
    """Return a run of a minute of Llama on an H100, with top-level settings changed."""
    data = {
        "name": "small",
        "horizon": "1 min",
        "fleet": [{"site": "us-iowa", "clusters": [{"name": "c", "node": "hgx-h100", "count": 1}]}],
        "deployments": [{"name": "d", "model": "llama-3.1-8b", "on": "c", "replicas": 2}],
        **changes,
    }
    if "workloads" not in data:
        data.setdefault("workload", workload("20 req/s"))
    return simulate(parse(Document(data)))


def workload(rate: str, **changes: Any) -> dict[str, Any]:
    """Return a workload of equal requests at a rate."""
    lengths = {"kind": "fixed", "input": 512, "thinking": 64, "answer": 128}
    return {
        "arrivals": {"kind": "poisson", "rate": rate},
        "lengths": lengths,
        "slo": {"ttft": "1 s", "tpot": "50 ms"},
        **changes,
    }


@pytest.fixture(scope="session")
def stable() -> Result:
    return run()


@pytest.fixture(scope="session")
def overloaded() -> Result:
    return run(workload=workload("400 req/s"))


@pytest.fixture(scope="session")
def rejecting() -> Result:
    deployment = {"name": "d", "model": "llama-3.1-8b", "on": "c", "max_model_len": 100}
    return run(deployments=[deployment])


@pytest.fixture(scope="session")
def rich_one() -> Result:
    """Two deployments, tenants with promises of their own, and names that try to break out."""
    tenants = [
        {"name": HOSTILE, "weight": 2, "slo": {"ttft": "2 s"}},
        {"name": "batch", "weight": 1, "slo": {"e2el": "1 min"}},
        {"name": "free", "weight": 1},
    ]
    deployments = [
        {"name": "one", "model": "llama-3.1-8b", "on": "c", "replicas": 2},
        {"name": "two", "model": "qwen3-30b-a3b", "on": "c", "parallelism": {"tp": 2, "ep": 2}},
    ]
    first = workload("10 req/s", name="a", to="one", tenants=tenants, slo=None)
    second = workload("5 req/s", name="b", to="two")
    return run(name=HOSTILE, description=HOSTILE, workloads=[first, second], deployments=deployments)


TASK_DEPLOYMENTS = [
    {"name": "policy", "model": "llama-3.1-8b", "on": "c", "replicas": 2},
    {"name": "judge", "model": "qwen2.5-7b", "on": "c"},
]


def of_tasks(rate: str, tasks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a workload of tasks at a rate."""
    promised = {"ttft": "1 s", "ttfo": "3 s", "e2el": "10 s"}
    return workload(rate, **{"name": "puzzles", "to": "policy", "tasks": tasks, "slo": promised, **changes})


@pytest.fixture(scope="session")
def tasked() -> Result:
    """Best of four with a judge that queues, beside a workload of plain requests."""
    strategy = {
        "kind": "best_of_n",
        "n": 4,
        "verifier": {"to": "judge", "true_accept": 0.9, "false_accept": 0.2},
    }
    puzzles = of_tasks("4 req/s", {"strategy": strategy, "accuracy": 0.4})
    return run(
        deployments=TASK_DEPLOYMENTS, workloads=[puzzles, workload("2 req/s", name="chat", to="policy")]
    )


@pytest.fixture(scope="session")
def anchored() -> Result:
    """A vote of a model that a benchmark knows, and names that try to break out."""
    tasks = {
        "strategy": {"kind": "vote", "n": 5},
        "benchmark": "aime24",
        "weights": {"policy": "r1-distill-qwen-32b"},
    }
    puzzles = of_tasks("2 req/s", tasks, name=HOSTILE, slo={"e2el": "10 s"})
    return run(deployments=TASK_DEPLOYMENTS[:1], workloads=[puzzles])


@pytest.fixture(scope="session")
def tasks_overloaded() -> Result:
    """More agents than the deployment can serve; nobody says how often they are right."""
    strategy = {"kind": "agent", "mean_turns": 4, "tool_latency": "0.1 s"}
    return run(deployments=TASK_DEPLOYMENTS[:1], workloads=[of_tasks("200 req/s", {"strategy": strategy})])


# ---- pages ----------------------------------------------------------------------------------------------------------


class Words(HTMLParser):
    """The text of a page, without its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.skipped: str | None = None
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "style"):
            self.skipped = tag

    def handle_endtag(self, tag):
        if tag == self.skipped:
            self.skipped = None

    def handle_data(self, data):
        if self.skipped is None:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[[str, int, str], Any]]:
    """Return what opens a page in the browser: it draws, complains of nothing, asks for nothing and is no wider."""
    pages: list[Any] = []

    def opened(text: str, width: int, scheme: str) -> Any:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda sent: asked.append(sent.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=20_000)
        assert said == []
        assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
        wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= inner
        return page

    yield opened
    for page in pages:
        page.close()


def drawings(page: Any) -> list[int]:
    """Return how many drawings each plot of a page holds; 0 for one that stayed empty."""
    return page.evaluate(
        "[...document.querySelectorAll('.plot')].map(e => e.querySelectorAll('.main-svg').length)"
    )
