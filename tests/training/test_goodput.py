"""Goodput follows Daly, stays a share, and agrees with what was published."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from clustersim.errors import InputError
from clustersim.training.goodput import MTBF, Reliability, daly_interval_s, goodput, kept_frac


def test_llama_3_kept_more_than_nine_tenths() -> None:
    kept = goodput(405.9e9, 16384)
    assert 0.90 < kept.frac < 0.95
    assert kept.mtbf_s / 3600 == pytest.approx(3.09, rel=0.01)
    assert kept.checkpoint_s == pytest.approx(2.84, rel=0.01)


def test_a_slow_checkpoint_costs_what_was_derived_by_hand() -> None:
    """A minute to write, 3.09 h between failures, 10 minutes to restart: 19.3 min, 5.2 + 5.2 + 5.4 %, to first order."""
    mtbf_s, write_s = 3.09 * 3600, 60.0
    assert math.sqrt(2 * write_s * mtbf_s) / 60 == pytest.approx(19.3, rel=0.01)
    kept = kept_frac(daly_interval_s(write_s, mtbf_s), write_s, mtbf_s, 600.0)
    assert 1 - kept == pytest.approx(0.052 + 0.052 + 0.054, abs=0.015)


def test_failures_in_a_thousand_node_days() -> None:
    assert 1000 * 24 * 8 * 3600 / MTBF["llama-3"].value == pytest.approx(3.79, rel=0.01)
    for whose in MTBF:
        assert Reliability.of(whose).mtbf_accelerator_s == MTBF[whose].value
    assert MTBF["meta-rsc-1"].value < MTBF["llama-3"].value
    with pytest.raises(InputError, match=r'no record of failures "llama3".*"llama-3"'):
        Reliability.of("llama3")


@given(st.floats(0.1, 1e3), st.floats(600, 1e7), st.floats(0, 3600))
def test_the_interval_is_close_to_the_best(write_s: float, mtbf_s: float, restart_s: float) -> None:
    if write_s > mtbf_s / 4:
        return
    ours = kept_frac(daly_interval_s(write_s, mtbf_s), write_s, mtbf_s, restart_s)
    best = minimize_scalar(
        lambda x: -kept_frac(math.exp(x), write_s, mtbf_s, restart_s), bounds=(-5, 20), method="bounded"
    )
    assert ours >= -best.fun * (1 - 0.01)


@given(st.floats(1e8, 1e13), st.integers(1, 200_000), st.floats(1, 3))
def test_goodput_is_a_share_and_falls_with_failures(params: float, num: int, factor: float) -> None:
    reliable = Reliability()
    worse = reliable.model_copy(update={"mtbf_accelerator_s": reliable.mtbf_accelerator_s / factor})
    one, other = goodput(params, num, reliable).frac, goodput(params, num, worse).frac
    assert 0 < other <= one * (1 + 1e-9) < 1.0 + 1e-9


def test_a_job_that_never_ends_is_refused() -> None:
    with pytest.raises(InputError, match="it never ends"):
        goodput(1e12, 10_000_000)
