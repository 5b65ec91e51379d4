"""What the console and the page say of caches, transfers, drafts, admission, scaling and failures, from plain data."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Words, drawings
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from clustersim.report import fleet
from clustersim.report.compare_words import figure, name
from clustersim.report.console import print_summary
from clustersim.report.fleet import Replicas
from clustersim.report.html import html
from clustersim.report.notes import warnings
from clustersim.report.plots import plots
from clustersim.report.words import availability
from clustersim.results.result import Result

EVERY = {
    "prefix_hit_frac": 0.63,
    "tier_hits": {"gpu": 1_200_000, "host_memory": 400_000, "nvme": 0, "remote": 90_000},
    "kv_offload": {
        "loaded_bytes": {"host_memory": 52e9, "remote": 12e9},
        "stored_bytes": {"host_memory": 3e12, "remote": 0.0},
        "p50_s": 0.002,
        "p99_s": 0.03,
    },
    "kv_transfer": {"bytes": 3.2e12, "p50_s": 0.012, "p99_s": 0.041},
    "speculation": {"tokens_per_step": 2.413},
    "shed": 1_200,
    "shed_frac": 0.0031,
    "retries": 9,
    "lost_tokens": 18_200,
    "availability_frac": 0.9995,
    "gpu_hours": 14.25,
    "cold_starts": 5,
    "cold_start_s": 41.2,
    "adapter_loads": 312,
}
#: Keys that say more about another's figure.
_BESIDE = {"tier_hits", "shed_frac", "cold_start_s"}
#: What is there of a mechanism that was used and did nothing, or whose values could not be measured.
IDLE = {
    "prefix_hit_frac": None, "tier_hits": {"gpu": 0}, "speculation": {"tokens_per_step": None},
    "kv_offload": {"loaded_bytes": {"gpu": 0.0}, "stored_bytes": {"gpu": 0.0}, "p50_s": None, "p99_s": None},
    "kv_transfer": {"bytes": 0.0, "p50_s": 0.0, "p99_s": 0.0},
    "shed": 0, "shed_frac": None, "retries": 0, "lost_tokens": 0, "availability_frac": None, "gpu_hours": 0.0,
    "cold_starts": 0, "cold_start_s": None, "adapter_loads": 0,
}  # fmt: skip
SOME = Replicas(2, 3.03, 4)


def changed(result: Result, extra: dict, on: np.ndarray | float | None = None) -> Result:
    """Return a run whose deployment has more metrics, and replicas in its timeline."""
    own = {each: {**values, **extra} for each, values in result.metrics["deployments"].items()}
    timeline = result.timeline if on is None else result.timeline.assign(replicas_on=on)
    metrics = {**result.metrics, "deployments": own}
    return Result(**{**vars(result), "metrics": metrics, "timeline": timeline})


def waves(result: Result) -> np.ndarray:
    return 1.0 + (np.arange(len(result.timeline)) // 40) % 3


def printed(result: Result, width: int = 100) -> str:
    stream = StringIO()
    print_summary(result, Console(file=stream, width=width, color_system=None))
    return " ".join(stream.getvalue().split())


def test_a_deployment_without_mechanisms_says_nothing(stable):
    assert fleet.figures(stable.metrics) == []
    assert fleet.facts(stable.metrics) == ""
    assert list(fleet.sentences(stable.metrics)) == []
    assert fleet.bars(stable.metrics) == []
    assert fleet.of(stable, stable.plans[0]) is None
    assert "Fleet:" not in printed(stable)
    assert "<h2>Fleet" not in html(stable)


def test_every_mechanism_has_its_figure():
    said = fleet.facts(EVERY, SOME)
    for part in (
        "input tokens found in KV cache 63 % (of requests that came in the window: gpu 1.2 M, host memory 400,000, "
        "remote 90,000)",
        "KV moved 3.2 TB (median 12 ms, 99 % within 41 ms)", "tokens a step with drafts 2.41",
        "KV loaded from slower tiers 64 GB (in the window, 3 TB written in the whole run, median 2 ms, 99 % within 30 ms)",
        "requests turned away 1,200 (0.31 % of all)", "adapters loaded 312", "replicas available 99.95 %",
        "requests tried again 9", "tokens lost to failures 18,200", "accelerators held 14.2 GPU-hours",
        "cold starts 5 (41.2 s each)", "replicas on 2 to 4 (3.03 in the mean).",
    ):  # fmt: skip
        assert part in said, part


@given(st.sets(st.sampled_from(sorted(EVERY))), st.booleans())
def test_what_is_used_is_shown_and_nothing_else(keys: set[str], idle: bool):
    metrics = {key: (IDLE if idle else EVERY)[key] for key in keys}
    shown = fleet.figures(metrics)
    assert len(shown) == len(keys - _BESIDE)
    text = fleet.facts(metrics) + " ".join(fleet.sentences(metrics))
    assert "None" not in text
    assert "nan" not in text
    assert all(each.value for each in shown)


def test_the_order_in_which_metrics_stand_does_not_matter():
    assert fleet.facts(dict(reversed(EVERY.items()))) == fleet.facts(EVERY)


def test_what_did_nothing_makes_no_sentence_and_no_bar():
    assert list(fleet.sentences(IDLE, Replicas(3, 3, 3))) == []
    assert fleet.bars(IDLE) == []
    assert list(fleet.sentences({"availability_frac": 1.0, "shed": 0, "prefix_hit_frac": 0.0})) == []


@given(
    st.dictionaries(st.sampled_from(["gpu", "host", "nvme", "remote", "far", "farther", "farthest"]), st.integers(0, 10**12)),
    st.none() | st.floats(0.001, 1),
)  # fmt: skip
def test_the_bar_of_tiers_is_whole(tiers: dict[str, int], hit: float | None):
    metrics = {"tier_hits": tiers} if hit is None else {"tier_hits": tiers, "prefix_hit_frac": hit}
    drawn = fleet.bars(metrics)
    assert len(drawn) == any(tiers.values())
    for bar in drawn:
        assert sum(part["share"] for part in bar["parts"]) == pytest.approx(1)
        computed = sum(part["share"] for part in bar["parts"] if part["name"] == "computed")
        assert computed == pytest.approx(1 - (hit or 1))


@given(st.floats(0, 1))
def test_availability_never_says_more_than_there_is(share: float):
    said = float(availability(share).removesuffix(" %"))
    assert said <= share * 100 * (1 + 1e-12)
    assert (said == 100) == (share == 1)


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (1.0, "100 %"),
        (0.9995, "99.95 %"),
        (0.999992, "99.9992 %"),
        (0.99, "99 %"),
        (0.953, "95 %"),
        (0.0, "0 %"),
    ],
)
def test_availability_has_its_nines(share, says):
    assert availability(share) == says


def test_replicas_are_those_of_the_window_and_the_deployment():
    timeline = pd.DataFrame(
        {
            "time_s": [0.0, 1.0, 2.0, 3.0] * 2,
            "deployment": ["a"] * 4 + ["b"] * 4,
            "replicas_on": [9.0, 1.0, 4.0, 9.0] + [np.nan] * 4,
        }
    )
    assert fleet.replicas_on(timeline, "a", (1.0, 3.0)) == Replicas(1, 2.5, 4)
    assert fleet.replicas_on(timeline, "b", (1.0, 3.0)) is None
    assert fleet.replicas_on(timeline.drop(columns="replicas_on"), "a", (1.0, 3.0)) is None


def test_replicas_are_drawn_beside_the_arrivals_where_they_vary(stable):
    plan = stable.plans[0]
    plain = [plot["title"] for plot in plots(stable, plan)]
    assert plain == [plot["title"] for plot in plots(changed(stable, {}, on=2.0), plan)]
    scaled = plots(changed(stable, {}, on=waves(stable)), plan)
    assert [plot["title"] for plot in scaled if plot.get("fleet")] == ["Arrivals", "Replicas"]
    assert set(plain) | {"Replicas"} == {plot["title"] for plot in scaled}
    assert set(scaled[2]["traces"][0]["y"]) == {1.0, 2.0, 3.0}


def test_the_console_and_the_page_say_the_same(stable):
    result = changed(stable, EVERY, on=waves(stable))
    shown, page = printed(result), Words(html(result)).text
    assert "Fleet: input tokens found in KV cache 63 %" in shown
    for label, value, unit, small in fleet.figures(EVERY, fleet.of(result, result.plans[0])):
        assert " ".join(filter(None, (label, value, unit, small))) in page
    for part in ("63 % of the input tokens were found", "It turned away 1,200 requests, 0.31 % of those",
                 "available for 99.95 % of the time", "It ran on 1 to 3 replicas"):  # fmt: skip
        assert part in page
    assert "d turned away 1,200 requests on arrival: latencies are of those it let in." in warnings(result)


@pytest.mark.parametrize("width", [60, 100])
def test_it_fits_any_terminal(stable, width):
    stream = StringIO()
    print_summary(changed(stable, EVERY), Console(file=stream, width=width, color_system=None))
    assert all(len(line) <= width for line in stream.getvalue().splitlines())


def test_every_figure_is_documented():
    page = Path(__file__).parents[2] / "docs/background/metrics.md"
    said = set(re.findall(r"`([^`]+)`", page.read_text(encoding="utf-8")))
    within = {key for values in EVERY.values() if isinstance(values, dict) for key in values} - set(
        EVERY["tier_hits"]
    )
    assert {*EVERY, *within, "replicas_on"} <= said


def test_comparisons_have_words_for_them():
    assert name("deployments.chat.availability_frac") == "chat: Replicas available"
    assert figure("availability_frac", 0.9995) == "99.95 %"
    assert figure("gpu_hours", 14.25) == "14.2 GPU-hours"
    assert figure("shed_frac", 0.0031) == "0.31 %"


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@pytest.mark.parametrize("extra", [EVERY, IDLE, {}], ids=["every", "idle", "scaled alone"])
def test_it_is_drawn_at_any_width(stable, extra, width, scheme, show):
    result = changed(stable, extra, on=waves(stable))
    page = show(html(result), width, scheme)
    section = page.locator("section", has=page.locator("h2", has_text="Fleet"))
    assert section.count() == 1
    assert section.locator(".plot .main-svg").count() > 0
    assert all(drawings(page))
    tops = section.locator(".plot").evaluate_all("all => all.map(each => each.getBoundingClientRect().top)")
    assert len(tops) == 2
    assert (tops[0] == tops[1]) == (width > 760)  # side by side where there is room
