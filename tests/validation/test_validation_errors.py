"""Errors against their definition, and the baseline against what its constant promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import DISAGGREGATED, SMALL, row

from clustersim.study.validation.case import case_of
from clustersim.study.validation.errors import beyond_the_roofline, errors_of, score
from clustersim.study.validation.mapping import load_rules
from clustersim.study.validation.metrics import METRICS, metric_of
from clustersim.study.validation.predictions import Prediction, predict
from clustersim.study.validation.result import ServingValidation
from clustersim.study.validation.rows import RefusedError, Row

POSITIVE = st.floats(1e-3, 1e6)


def prediction(measured: float, predicted: float, roofline: float, metric: str = "tpot_ms") -> Prediction:
    of = METRICS[metric]
    return Prediction(row(value=str(measured), metric=metric, unit=of.unit), of, predicted, roofline)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(POSITIVE, POSITIVE, POSITIVE, st.sampled_from(sorted(METRICS))), min_size=1, max_size=30
    )
)
def test_errors_are_those_of_the_definition(given_rows: list[tuple[float, float, float, str]]) -> None:
    scored, constant = score([prediction(*each) for each in given_rows])
    found = errors_of(scored)
    ape = [100 * abs(predicted - measured) / measured for measured, predicted, _, _ in given_rows]
    assert found.n == len(given_rows)
    assert found.median_ape_pct == pytest.approx(np.median(ape), rel=1e-9, abs=1e-9)
    assert found.p90_ape_pct == pytest.approx(np.quantile(ape, 0.9), rel=1e-9, abs=1e-9)
    base = []
    for measured, _, bare, metric in given_rows:
        rate = METRICS[metric].quantity == "throughput"
        base.append(100 * abs((bare / constant if rate else bare * constant) / measured - 1))
    assert found.baseline_median_ape_pct == pytest.approx(np.median(base), rel=1e-9, abs=1e-9)


@given(st.floats(0.6, 15.0))
def test_a_roofline_off_by_one_constant_is_found_again(factor: float) -> None:
    """Times are multiplied by the constant and rates divided by it, so that both come out right."""
    rows = [prediction(factor * 10, 1, 10), prediction(factor * 3, 1, 3, "ttft_ms"),
            prediction(500 / factor, 1, 500, "output_tok_s_total")]  # fmt: skip
    scored, constant = score(rows)
    assert constant == pytest.approx(factor, rel=0.006)
    assert errors_of(scored).baseline_p90_ape_pct < 1


def test_perfect_predictions_have_no_error() -> None:
    scored, _ = score([prediction(7, 7, 3), prediction(9, 9, 4, "e2e_ms_p99")])
    assert errors_of(scored).p90_ape_pct == 0


def test_rows_that_no_machine_could_have_are_counted_and_kept() -> None:
    slow, fast = prediction(100, 90, 50, "output_tok_s_total"), prediction(100, 90, 150, "output_tok_s_total")
    assert beyond_the_roofline(slow)
    assert not beyond_the_roofline(fast)
    assert beyond_the_roofline(prediction(5, 9, 6, "ttft_ms"))
    assert not beyond_the_roofline(prediction(5, 9, 6, "tpot_ms"))  # the batch may be smaller than the loop
    found = ServingValidation([slow, fast], [])
    assert (found.num_beyond_the_roofline, found.as_json()["metrics"]["output_tok_s_total"]["n"]) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"metric": "happiness"}, 'metric "happiness" is not known'),
     ({"metric": "ttft_ms", "unit": "s"}, "ttft_ms in s: wants ms")],
)  # fmt: skip
def test_metrics_that_mean_nothing_here_are_refused(changes: dict[str, str], says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        metric_of(row(**changes))


# ---- simulated -----------------------------------------------------------------------------------------------------


def rows_of(cells: list[dict[str, str]]) -> list[Row]:
    return [row(index, **each) for index, each in enumerate(cells, start=2)]


def test_every_kind_of_load_is_simulated_once_a_run_and_alike_in_processes() -> None:
    steps: list[tuple[int, int]] = []
    alone, refused = predict(rows_of(SMALL), done=lambda done, total: steps.append((done, total)))
    assert [each.row.line for each in alone] == [2, 3, 4, 5, 6]
    assert [each.reason[:7] for each in refused] == ["Qwen3.5"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]  # TPOT and TTFT are of one run
    assert all(0.1 < each.predicted / each.row.value < 10 for each in alone)
    several, again = predict(rows_of(SMALL), jobs=2)
    assert [each.predicted for each in several] == [each.predicted for each in alone]
    assert [each.roofline for each in several] == [each.roofline for each in alone]
    assert again == refused


def test_no_simulated_step_beats_the_roofline_and_baselines_know_the_load() -> None:
    changes = {"load_kind": "static_batch", "engine": "ideal", "precision": "fp8", "kv_precision": "fp8"}
    [one], _ = predict(rows_of([{**changes, "load_value": "1"}]))
    [many], _ = predict(rows_of([{**changes, "load_value": "64"}]))
    for each in (one, many):
        assert each.predicted >= each.roofline * 0.98
    assert many.roofline > one.roofline


def test_what_does_not_fit_is_refused_and_the_rest_goes_on() -> None:
    found, refused = predict(rows_of([{"model": "Llama-3.1-405B"}, {}]))
    assert [each.row.line for each in found] == [3]
    assert "does not fit" in refused[0].reason


def test_a_pool_that_decodes_is_what_its_rate_is_per() -> None:
    apart = {"tp": "P/D", "ep": "P/D", "dp": "P/D", "notes": DISAGGREGATED, "model": "Qwen3-30B-A3B"}
    cells = [{**apart, "metric": "output_tok_s_per_decode_gpu", "unit": "tok/s/decode-GPU"},
             {**apart, "metric": "output_tok_s_total", "unit": "tok/s"},
             {**apart, "metric": "output_tok_s_per_gpu", "unit": "tok/s/GPU"}]  # fmt: skip
    found, refused = predict(rows_of(cells))
    assert not refused
    per_decode, total, per_gpu = (each.predicted for each in found)
    assert total == pytest.approx(2 * per_decode) == pytest.approx(4 * per_gpu)
    assert found[1].roofline == pytest.approx(2 * found[0].roofline)


def test_where_other_gpus_prefill_the_baseline_has_no_prefill_in_tpot() -> None:
    rules = load_rules()
    apart = row(tp="P/D", ep="P/D", dp="P/D", notes=DISAGGREGATED, model="Qwen3-30B-A3B", isl="8192")
    case = case_of(apart, rules)
    assert [each.name for each in case.scenario.deployments] == ["decode", "prefill"]
    [tpot], _ = predict([apart])
    together = row(tp="2", ep="2", notes="in [0.8,1.0]x", model="Qwen3-30B-A3B", isl="8192")
    [mixed], _ = predict([together])
    assert tpot.roofline < mixed.roofline
