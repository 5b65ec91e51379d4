import math
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from clustersim.errors import InputError
from clustersim.kinds import OneOf, kinds
from clustersim.randomness import stream
from clustersim.workload.arrivals import Arrivals, OpenArrivals
from clustersim.workload.renewal import gamma_renewal, weibull_cv, weibull_renewal, weibull_shape

PARTS = TypeAdapter(Annotated[Arrivals, OneOf("arrivals")])
OPEN = [
    (kind, example)
    for kind, part in kinds("arrivals").items()
    if issubclass(part, OpenArrivals)
    for example in part.examples
]


def part(**settings_):
    return PARTS.validate_python(settings_)


def rng(name="arrivals"):
    return stream(11, name)


@pytest.mark.parametrize(("kind", "example"), OPEN)
def test_every_open_kind_keeps_the_contract(kind, example):
    process = PARTS.validate_python(example)
    times = process.times(rng(), 100.0, 700.0, 5000)
    assert times.dtype == np.float64
    assert (np.diff(times) >= 0).all()
    assert times.size == 0 or (times[0] >= 100 and times[-1] < 700)
    assert (times == process.times(rng(), 100.0, 700.0, 5000)).all()
    shorter = process.times(rng(), 100.0, 400.0, 5000)
    assert (shorter == times[times < 400]).all()
    fewer = process.times(rng(), 100.0, 700.0, 7)
    assert (fewer == times[:7]).all()
    assert PARTS.validate_python(PARTS.dump_python(process, mode="json")) == process
    hash(process)


@pytest.mark.parametrize("kind", ["poisson", "gamma", "weibull", "deterministic"])
def test_a_number_of_requests_needs_no_end(kind):
    extra = {"cv": 2} if kind in ("gamma", "weibull") else {}
    times = part(kind=kind, rate="4 req/s", **extra).times(rng(), 0.0, math.inf, 20_000)
    assert len(times) == 20_000
    assert times[-1] == pytest.approx(5000, rel=0.06)
    with pytest.raises(ValueError, match="needs an end or a number"):
        part(kind=kind, rate="4 req/s", **extra).times(rng(), 0.0, math.inf)


@pytest.mark.parametrize(
    ("kind", "cv"), [("gamma", 0.3), ("gamma", 1), ("gamma", 3), ("weibull", 0.5), ("weibull", 2)]
)
def test_rate_and_burstiness_are_as_given(kind, cv):
    times = part(kind=kind, rate="20 req/s", cv=cv).times(rng(), 0.0, 50_000.0)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(1e6, rel=4 * max(cv, 0.01) / 1e3)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_poisson_gaps_are_exponential():
    gaps = np.diff(part(kind="poisson", rate="3 req/s").times(rng(), 0.0, 20_000.0))
    assert stats.kstest(gaps, "expon", args=(0, 1 / 3)).pvalue > 0.01


@pytest.mark.parametrize("process", [gamma_renewal(4.0), gamma_renewal(0.4), weibull_renewal(0.4)])
def test_the_first_arrival_is_stationary_so_that_counts_are_unbiased(process):
    counts = [len(process.events(rng(str(index)), 10.0)) for index in range(20_000)]
    assert np.mean(counts) == pytest.approx(10, abs=4 * np.std(counts) / math.sqrt(len(counts)))


@given(st.floats(0.05, 20))
def test_the_weibull_shape_inverts_its_cv(cv):
    assert weibull_cv(weibull_shape(cv)) == pytest.approx(cv, rel=1e-9)


def test_deterministic_arrivals_are_evenly_spaced_from_the_start():
    times = part(kind="deterministic", rate="4 req/s").times(rng(), 10.0, 12.0)
    assert times.tolist() == [10, 10.25, 10.5, 10.75, 11, 11.25, 11.5, 11.75]


def test_a_rate_curve_is_followed():
    curve = part(kind="rate_curve", points=[["0 h", "0 req/s"], ["1 h", "10 req/s"], ["2 h", "0 req/s"]])
    times = curve.times(rng(), 0.0, 7200.0)
    assert len(times) == pytest.approx(36_000, abs=4 * math.sqrt(36_000))

    def share(t):
        x = np.asarray(t) / 3600
        return np.where(x < 1, x**2 / 2, 1 - (2 - x) ** 2 / 2)

    assert stats.kstest(times, share).pvalue > 0.01


def test_bins_have_poisson_counts_around_the_given_ones_and_empty_bins_stay_empty():
    counts = np.array([900, 0, 0, 3600, 100, 0])
    curve = part(kind="rate_curve", bins={"width": "10 min", "counts": counts.tolist()}, period="1 h")
    times = curve.times(rng(), 0.0, 3600.0 * 200)
    seen = np.histogram(times % 3600, 6, (0, 3600))[0]
    assert (seen[counts == 0] == 0).all()
    assert seen[counts > 0] / 200 == pytest.approx(counts[counts > 0], rel=0.02)


def test_bins_of_rates_and_of_counts_agree():
    rates = part(kind="rate_curve", bins={"width": "10 min", "rates": ["1 req/s", "3 req/s"]})
    counts = part(kind="rate_curve", bins={"width": "10 min", "counts": [600, 1800]})
    assert (rates.times(rng(), 0.0, 1200.0) == counts.times(rng(), 0.0, 1200.0)).all()


@given(
    st.lists(st.floats(0.01, 50), min_size=2, max_size=6),
    st.floats(0, 5000),
    st.booleans(),
)
def test_the_cumulative_rate_and_its_inverse_agree(rates, time_s, periodic):
    points = [[f"{600 * index} s", f"{rate} req/s"] for index, rate in enumerate(rates)]
    curve = part(kind="rate_curve", points=points, **({"period": "3600 s"} if periodic else {})).curve()
    time_s = time_s if periodic else min(time_s, float(curve.edges_s[-1]))
    back = curve.time_of(np.array([curve.expected(time_s)]))[0]
    assert back == pytest.approx(time_s, rel=1e-6, abs=1e-3)


@settings(deadline=None)
@given(st.floats(1, 2), st.floats(0, 86400))
def test_a_diurnal_rate_has_its_formula_and_mean(peak_to_mean, peak_at):
    curve = part(
        kind="diurnal", mean_rate="5 req/s", peak_to_mean=peak_to_mean, peak_at=f"{peak_at} s"
    ).curve()
    assert curve.expected(86400.0) == pytest.approx(5 * 86400, rel=1e-9)
    times = np.linspace(0, 86400, 97)
    exact = 5 * times + 5 * (peak_to_mean - 1) * 86400 / (2 * np.pi) * (
        np.sin(2 * np.pi * (times - peak_at) / 86400) + np.sin(2 * np.pi * peak_at / 86400)
    )
    assert [curve.expected(t) for t in times] == pytest.approx(exact, rel=1e-5, abs=1)


def test_a_curve_that_does_not_cover_the_time_asked_for_is_refused():
    curve = part(kind="rate_curve", bins={"width": "1 h", "rates": ["1 req/s", "3 req/s"]})
    with pytest.raises(InputError, match=r"covers 0 s to 2 h.*repeat it with `period: 2 h`"):
        curve.times(rng(), 0.0, 3 * 3600.0)
    assert len(curve.times(rng(), 0.0, math.inf, 100_000)) == pytest.approx(14_400, rel=0.05)


@pytest.mark.parametrize("factor", [0.5, 3.0])
@pytest.mark.parametrize(("kind", "example"), OPEN)
def test_scaling_multiplies_the_rate_alone(kind, example, factor):
    process = PARTS.validate_python({**example, **({"cv": 1} if kind == "rate_curve" else {})})
    if kind == "all_at_once":
        with pytest.raises(InputError, match="no rate"):
            process.scaled(factor)
        return
    before, after = (len(p.times(rng(), 0.0, 1200.0)) for p in (process, process.scaled(factor)))
    assert after == pytest.approx(before * factor, rel=0.2, abs=60)


def test_all_at_once():
    assert part(kind="all_at_once", num=3, at="5 s").times(rng(), 100.0, 200.0).tolist() == [105, 105, 105]
    assert part(kind="all_at_once", at="5 s").times(rng(), 0.0, 5.0, 3).tolist() == []
    with pytest.raises(InputError, match="needs `num`, or `num_requests`"):
        part(kind="all_at_once").times(rng(), 0.0, 5.0)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"kind": "poison", "rate": "1 req/s"}, 'Did you mean "poisson"'),
        ({"kind": "poisson", "rate": 16}, "16 has no unit"),
        ({"kind": "poisson", "rate": "0 req/s"}, "above zero"),
        ({"kind": "gamma", "rate": "1 req/s", "cv": 0}, "greater than 0"),
        ({"kind": "weibull", "rate": "1 req/s"}, "either `cv` or `shape`"),
        ({"kind": "rate_curve"}, "either `points` or `bins`"),
        ({"kind": "rate_curve", "bins": {"width": "1 h"}}, "either `rates` or `counts`"),
        ({"kind": "rate_curve", "bins": {"width": "1 h", "counts": [0, 0]}}, "zero throughout"),
        (
            {"kind": "rate_curve", "bins": {"width": "1 h", "counts": [1, 2]}, "period": "3 h"},
            "as long as `period`",
        ),
        ({"kind": "rate_curve", "points": [["1 h", "1 req/s"], ["0 h", "1 req/s"]]}, "times that increase"),
        ({"kind": "rate_curve", "points": []}, "times that increase"),
        (
            {"kind": "diurnal", "mean_rate": "1 req/s", "peak_to_mean": 3, "peak_at": 0},
            "less than or equal to 2",
        ),
    ],
)
def test_settings_that_make_no_process_are_refused_in_words(settings_, words):
    with pytest.raises(ValidationError, match=words):
        PARTS.validate_python(settings_)
