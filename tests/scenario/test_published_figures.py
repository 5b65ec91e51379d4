"""Published figures in a scenario: the error that a run prints, and figures that cannot be."""

from __future__ import annotations

import io

import pytest
import toy
from pydantic import ValidationError

from clustersim import simulate
from clustersim.errors import InputError
from clustersim.report import words
from clustersim.results.published import against
from clustersim.scenario.published import Published

SPEED = {
    "name": "tokens a second of a node",
    "metric": "deployments.serve.tokens_per_s_per_gpu",
    "times": 8,
    "source": "x",
}


@pytest.mark.parametrize(
    ("low", "high", "found", "error"),
    [(100, None, 90, -0.1), (100, None, 100, 0), (20, 22, 18, -0.1), (20, 22, 21, 0), (20, 22, 33, 0.5)],
)
def test_the_error_is_to_the_nearest_of_what_was_published(
    low: float, high: float | None, found: float, error: float
) -> None:
    assert Published(**SPEED, low=low, high=high).error_frac(found) == pytest.approx(error)


def test_a_range_upside_down_is_refused() -> None:
    with pytest.raises(ValidationError, match="high must not be below low"):
        Published(**SPEED, low=2, high=1)


def test_values_of_a_run() -> None:
    metrics = {"deployments": {"serve": {"tokens_per_s_per_gpu": 2.0, "regime": "STABLE", "p99": None}}}
    (row,) = against([Published(**SPEED, low=20)], metrics)
    assert row["found"] == 16
    assert row["error_frac"] == pytest.approx(-0.2)
    (row,) = against([Published(**SPEED | {"metric": "deployments.serve.p99"}, low=20)], metrics)
    assert row["found"] is row["error_frac"] is None
    for metric, why in (
        ("deployments.serv.x", 'no metric "serv"'),
        ("deployments.serve.regime", "is no number"),
    ):
        with pytest.raises(InputError, match=rf"published\.0\.metric {metric}: .*{why}"):
            against([Published(**SPEED | {"metric": metric}, low=20)], metrics)


def test_a_run_says_how_far_off_it_is() -> None:
    scenario = toy.scenario(workload={"num_requests": 3})
    name = scenario.deployments[0].name
    metric = f"deployments.{name}.request_throughput"
    plain = simulate(scenario)
    assert "published" not in plain.metrics
    assert list(words.published(plain)) == []
    figures = (Published(**SPEED | {"metric": metric, "times": 1}, low=1e-9),)
    result = simulate(scenario.model_copy(update={"published": figures}))
    (line,) = words.published(result)
    assert "tokens a second of a node" in line
    assert "1e-09 published: +" in line
    assert line in words_of(result)


def words_of(result: object) -> str:
    from rich.console import Console

    from clustersim.report.console import summary

    console = Console(width=400, record=True, file=io.StringIO())
    console.print(summary(result))  # type: ignore[arg-type]
    return console.export_text()
