"""A pair of pools: money and energy of both together, prompts for the one that only prefills, promises where they are kept."""

from __future__ import annotations

from io import StringIO

import pytest
from conftest import Words, run, workload
from rich.console import Console

from clustersim.report import pools, story, words
from clustersim.report.console import print_summary
from clustersim.report.html import html
from clustersim.report.plots import plots
from clustersim.results.result import Result

PAIR = [
    {"name": "prompts", "model": "llama-3.1-8b", "on": "c", "replicas": 2},
    {"name": "answers", "model": "llama-3.1-8b", "on": "c", "prefill_by": "prompts"},
]


@pytest.fixture(scope="module")
def paired() -> Result:
    return run(deployments=PAIR, workload=workload("5 req/s", to="answers"))


@pytest.fixture(scope="module")
def shared() -> Result:
    """One pool that prefills for two, beside a deployment of its own."""
    more = [*PAIR, {**PAIR[1], "name": "more"}, {"name": "alone", "model": "llama-3.1-8b", "on": "c"}]
    asked = [workload("2 req/s", name=name, to=name) for name in ("answers", "more", "alone")]
    return run(deployments=more, workloads=asked)


def shown(result: Result) -> str:
    stream = StringIO()
    print_summary(result, Console(file=stream, width=100, color_system=None))
    return " ".join(stream.getvalue().split())


def test_a_pair_is_priced_as_one(paired):
    prefill, decode = paired.plans
    of = pools.spent(paired, decode)
    assert of.names == ("prompts", "answers")
    assert of.usd_per_mtok == pytest.approx(paired["usd_per_output_mtok"])
    assert of.joules_per_token == pytest.approx(paired["joules_per_output_token"])
    assert of.tokens_per_s_per_gpu == pytest.approx(paired["tokens_per_s_per_gpu"])
    own = pools.spent(paired, prefill)
    assert own.usd == paired["deployments"]["prompts"]["usd"]
    assert own.tokens == pytest.approx(512 * 5 * 54, rel=0.15)


def test_the_console_shows_no_output_of_one_that_only_prefills(paired):
    text = shown(paired)
    first, second = text.split("─ answers ─")
    assert "per Mtok prompt" in first
    assert "req/s prefilled" in first
    for part in ("per Mtok output", "E2EL", "TPOT", "within", "tok/s/user", "Time of a token"):
        assert part not in first, part
    price = words.usd(paired["usd_per_output_mtok"])
    joules = words.number(paired["joules_per_output_token"])
    assert f"Together: prompts and answers: {price} per Mtok output, {joules} J per output token" in second
    assert second.count("per Mtok output") == 1


def test_the_page_prices_prompts_and_pairs(paired):
    page = Words(html(paired)).text
    price = words.usd(paired["usd_per_output_mtok"])
    assert f"A million output tokens cost {price}" in page
    assert "at the meter, prompts and answers together." in page
    assert "A million prompt tokens computed cost $" in page
    assert page.count("Answer starts (TTFO)") == page.count("Whole response (E2EL)") == 1
    assert "(SLO ())" not in page
    assert "met the SLO ()" not in page
    assert [trace["name"] for trace in plots(paired, paired.plans[0])[0]["traces"]] == ["TTFT"]


def test_a_pool_may_prefill_for_several(shared):
    every = shared["deployments"]
    answers, more, alone = shared.plans[1:]
    of = pools.spent(shared, answers)
    assert of == pools.spent(shared, more)
    assert of.usd == pytest.approx(sum(every[name]["usd"] for name in ("prompts", "answers", "more")))
    assert pools.spent(shared, alone).usd_per_mtok == pytest.approx(every["alone"]["usd_per_output_mtok"])
    assert shown(shared).count("Together:") == 1


def test_promises_of_a_strategys_parts_have_words(tasked):
    judge = tasked.plans[1]
    metrics = tasked.metrics["deployments"]["judge"]
    assert words.goodput(tasked, judge, metrics).endswith("within TTFT < 1 s")
    assert "met the SLO (TTFT < 1 s)" in " ".join(story.answer(tasked, judge))


def test_a_promise_of_nothing_is_none():
    result = run(horizon="5 s", workload=workload("2 req/s", slo={}))
    assert dict(story.asked(result))["Workload for d"].endswith("No SLO was given.")
