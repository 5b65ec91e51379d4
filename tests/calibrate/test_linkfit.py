"""The link model against samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.cluster.segments import SizeSamples, slope_of
from calibrate.linkfit import LinkFit, bus_factor, fit_link, missing_links, num_steps

SIZES = [2**k for k in range(10, 18, 2)] + [2**k for k in range(17, 22)]
BULK = [2**21, 2**22, 2**23]
NAMES = {"path": "tcp", "a": "a", "b": "b"}


def samples(
    draw: np.random.Generator, seconds: float, noise: float, outliers: float = 0.0, n: int = 15
) -> np.ndarray:
    """Times around a truth: scheduler noise is one-sided, so is what an outlier adds."""
    x = seconds * np.exp(noise * draw.standard_normal(n))
    return np.where(draw.random(n) < outliers, x + draw.exponential(5 * seconds, n), x)


def shaped(
    latency: float, rate: float, burst: float, noise: float, seed: int, outliers: float = 0.0
) -> list[SizeSamples]:
    draw = np.random.default_rng(seed)
    rested = [
        SizeSamples.of(
            s, samples(draw, latency + min(s, burst) / 3e9 + max(0, s - burst) / rate, noise, outliers)
        )
        for s in SIZES + BULK[1:]
    ]
    return rested + [
        SizeSamples.of(s, samples(draw, latency + s / rate, noise, outliers), drained=True) for s in BULK
    ]


@settings(max_examples=40)
@given(
    latency=st.floats(20e-6, 20e-3),
    rate=st.floats(5e6, 2e9),
    noise=st.floats(0.0, 0.03),
    seed=st.integers(0, 2**16),
)
def test_a_plain_link_is_recovered(latency: float, rate: float, noise: float, seed: int) -> None:
    fit = fit_link(shaped(latency, rate, 0.0, noise, seed), **NAMES)
    assert fit.latency_s is not None
    assert fit.bandwidth_bytes_per_s is not None
    if BULK[-1] / rate > latency / 2:  # else the slope drowns in the noise of the latency
        assert fit.bandwidth_bytes_per_s.value == pytest.approx(rate, rel=0.05 + noise)
    if latency > 3 * SIZES[0] / rate:
        assert fit.latency_s.value == pytest.approx(latency, rel=0.10 + 2 * noise)


@settings(max_examples=40)
@given(
    rate=st.floats(5e6, 2e8),
    burst=st.floats(100e3, 600e3),
    noise=st.floats(0.0, 0.03),
    seed=st.integers(0, 2**16),
)
def test_a_shaped_link_gives_bandwidth_and_burst(rate: float, burst: float, noise: float, seed: int) -> None:
    """Where a naive line over all sizes is far off, because small messages pass unshaped."""
    fit = fit_link(shaped(200e-6, rate, burst, noise, seed, outliers=0.1), **NAMES)
    assert fit.bandwidth_bytes_per_s is not None
    assert fit.bandwidth_bytes_per_s.value == pytest.approx(rate, rel=0.05 + noise)
    assert len(fit.segments) >= 2
    if burst > 200e3:
        assert fit.burst_bytes.value == pytest.approx(burst, rel=0.35 + 5 * noise)
    assert fit.seconds(2**23) == pytest.approx(200e-6 + 2**23 / rate, rel=0.06 + noise)


def test_two_regimes_are_two_segments_and_their_edge_is_found() -> None:
    """Rendezvous: above 64 KiB each message pays 200 us more and streams faster."""
    draw = np.random.default_rng(1)
    truth = {s: (20e-6 + s / 1e9 if s < 2**16 else 220e-6 + s / 5e9) for s in [2**k for k in range(10, 25)]}
    fit = fit_link([SizeSamples.of(s, samples(draw, t, 0.01)) for s, t in truth.items()], **NAMES)
    assert [segment.from_bytes for segment in fit.segments] == [0.0, 2**16]
    assert fit.latency_s is not None
    assert fit.bandwidth_bytes_per_s is not None
    assert fit.latency_s.value == pytest.approx(20e-6, rel=0.05)
    assert fit.bandwidth_bytes_per_s.value == pytest.approx(5e9, rel=0.03)
    assert fit.segments[0].bandwidth_bytes_per_s == pytest.approx(1e9, rel=0.1)
    assert fit.residual_frac is not None
    assert fit.residual_frac < 0.02


def test_one_line_needs_one_segment() -> None:
    segments = [len(fit_link(shaped(1e-3, 1e8, 0.0, 0.02, seed), **NAMES).segments) for seed in range(20)]
    assert segments.count(1) >= 16


def test_the_interval_of_the_bandwidth_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(40):
        bandwidth = fit_link(shaped(1e-3, 1e8, 256e3, 0.03, seed), seed=seed, **NAMES).bandwidth_bytes_per_s
        assert bandwidth is not None
        held += bandwidth.low <= 1e8 <= bandwidth.high
    assert held >= 33, "95 % of 40, less what few samples and a bootstrap cost"


@settings(max_examples=25)
@given(scale=st.floats(0.1, 10.0), seed=st.integers(0, 1000))
def test_a_link_twice_as_slow_fits_twice_as_slow(scale: float, seed: int) -> None:
    before = shaped(1e-3, 1e8, 256e3, 0.02, seed)
    after = [
        SizeSamples(each.bytes, tuple(scale * run for run in each.runs), each.drained) for each in before
    ]
    slow, fast = fit_link(after, **NAMES), fit_link(before, **NAMES)
    assert slow.latency_s is not None
    assert fast.latency_s is not None
    assert slow.latency_s.value == pytest.approx(scale * fast.latency_s.value)
    assert slow.seconds(2**23) == pytest.approx(scale * fast.seconds(2**23))
    assert slow.burst_bytes.value == pytest.approx(fast.burst_bytes.value)


def test_one_size_gone_wrong_does_not_move_the_slope() -> None:
    sizes = np.array([2, 4, 8, 16]) * 2**20
    seconds = sizes / 1e8 * np.array([1, 1.8, 1, 1])
    assert 1 / slope_of(sizes, seconds) == pytest.approx(1e8, rel=0.01)


def test_the_acknowledgement_is_taken_off() -> None:
    given = [SizeSamples.of(s, [3e-3 + s / 1e8] * 15) for s in [*SIZES, *BULK[1:]]]
    fit = fit_link(given, ack_s=1e-3, **NAMES)
    assert fit.latency_s is not None
    assert fit.latency_s.value == pytest.approx(2e-3, rel=0.01)


def test_bus_factors_are_those_of_nccl_tests() -> None:
    assert bus_factor("all_reduce", 4) == 1.5
    assert (
        bus_factor("all_gather", 4) == bus_factor("reduce_scatter", 4) == bus_factor("all_to_all", 4) == 0.75
    )
    assert bus_factor("p2p", 2) == 1.0
    assert num_steps("all_reduce", 4) == 6


def test_a_collective_is_steps_of_latency_and_its_bytes() -> None:
    fit = fit_link([SizeSamples.of(s, [1e-3 + s / 1e8] * 15) for s in [*SIZES, *BULK[1:]]], **NAMES)
    assert fit.collective_seconds("all_reduce", 64e6, 4) == pytest.approx(6e-3 + 1.5 * 64e6 / 1e8, rel=1e-3)


def test_what_is_written_of_a_link_is_plain_data() -> None:
    plain = fit_link(shaped(200e-6, 5e7, 256e3, 0.01, 3), **NAMES).as_dict()
    assert plain["bandwidth_bytes_per_s"]["v"] == pytest.approx(5e7, rel=0.05)
    assert set(plain) >= {"path", "a", "b", "segments", "residual_frac", "num_samples", "quality", "missing"}


def test_a_missing_link_says_so_and_predicts_nothing() -> None:
    (link,) = missing_links({("a", "c"): "c died"}, "tcp")
    assert (link.quality, link.missing) == ("missing", "c died")
    with pytest.raises(ValueError, match="c died"):
        link.seconds(1e6)


def test_without_large_sizes_the_fit_says_that_it_is_poor() -> None:
    fit = fit_link([SizeSamples.of(s, [1e-3 + s / 1e8] * 15) for s in SIZES[:6]], **NAMES)
    assert fit.quality == "poor"
    assert "no_bulk" in fit.flags
    with pytest.raises(ValueError, match="two sizes"):
        fit_link([SizeSamples.of(1024, [1e-3])], **NAMES)


def test_contended_samples_make_a_contended_link() -> None:
    assert isinstance(fit := fit_link(shaped(1e-3, 1e8, 0, 0.0, 0), contended=True, **NAMES), LinkFit)
    assert fit.quality == "contended"
