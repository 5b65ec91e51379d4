"""Device profiles: they load, survive a round trip, keep to the roofline and are monotone in the hardware."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustersim.cost.profile import (
    PEAKS,
    RING_STEPS,
    CollectiveFit,
    Fit,
    Profile,
    folder,
    generic,
    load_profile,
    read_profile,
    smooth_max,
)
from clustersim.errors import InputError

PATHS = sorted(folder().glob("*/*/profile.yaml"))
FITTED = [path for path in PATHS if path.parts[-3] != "generic"]
FLOPS, BYTES, DEPTH, TASKS = (
    10.0 ** np.array(grid) for grid in ([6, 9, 14], [3, 6, 11], [0, 3, 5], [0, 2, 6])
)


def named(path: Path) -> str:
    return "/".join(path.parts[-3:-1])


def seconds(fit: Fit, peak: float = 1e15, bandwidth: float = 3e12) -> np.ndarray:
    grid = np.meshgrid(FLOPS, BYTES, DEPTH, TASKS)
    return fit.seconds(*grid, peak_flops_per_s=peak, bandwidth_bytes_per_s=bandwidth)


def test_every_known_device_has_a_profile() -> None:
    assert {path.parts[-3] for path in PATHS} == {
        "a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "b300-sxm", "gb200-nvl72", "gb300-nvl72", "l40s",
        "rtx-pro-6000-server", "generic",
    }  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_a_profile_loads_and_survives_a_round_trip(path: Path) -> None:
    profile = read_profile(path)
    assert (profile.device, profile.name) == path.parts[-3:-1]
    assert Profile.model_validate(profile.model_dump(mode="json")) == profile
    assert profile.model_dump(mode="json")["schema"] == 1


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_no_fit_beats_the_roofline_or_grows_with_better_hardware(path: Path) -> None:
    flops, bytes_, *_ = np.meshgrid(FLOPS, BYTES, DEPTH, TASKS)
    for fits in read_profile(path).fits.values():
        for dtype, fit in fits.items():
            assert dtype in PEAKS
            assert fit.overhead_s > 0
            assert np.all(seconds(fit) > np.maximum(flops / 1e15, bytes_ / 3e12))
            assert np.all(seconds(fit, peak=2e15) <= seconds(fit) * (1 + 1e-12))
            assert np.all(seconds(fit, bandwidth=6e12) <= seconds(fit) * (1 + 1e-12))


@pytest.mark.parametrize("path", FITTED, ids=named)
def test_fits_record_where_they_come_from_and_how_far_they_are_off(path: Path) -> None:
    profile = read_profile(path)
    assert profile.evidence == "fitted"
    assert profile.provenance.license == "Apache-2.0"
    assert {"gemm", "attention_prefill", "attention_decode", "mla_prefill", "mla_decode", "moe"} == set(
        profile.fits
    )
    for fits in profile.fits.values():
        for fit in fits.values():
            assert fit.error is not None
            assert fit.error.num_test >= 30
            assert fit.num_rows > fit.error.num_test
            assert fit.error.median_ape_frac < fit.error.baseline_median_ape_frac
            assert fit.source.endswith(".parquet")


@pytest.mark.parametrize("path", FITTED, ids=named)
def test_large_bf16_products_are_close(path: Path) -> None:
    error = read_profile(path).fits["gemm"]["bf16"].error
    assert error is not None
    assert error.median_ape_frac < 0.08
    assert error.p90_ape_frac < 0.22


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_collectives_grow_with_messages_and_never_beat_the_wire(path: Path) -> None:
    profile = read_profile(path)
    assert set(profile.collectives) == set(RING_STEPS)
    message, ranks = np.meshgrid(2.0 ** np.arange(8, 32), [2, 4, 8])
    for operation, kinds in profile.collectives.items():
        for fit in kinds.values():
            took = fit.seconds(message, ranks)
            assert np.all(np.diff(took, axis=1) > 0)
            least = (
                (1.0 if operation == "all_reduce" else (ranks - 1) / ranks) * message / fit.link_bytes_per_s
            )
            assert np.all(took > least)
            assert fit.seconds(1e6, 1) == 0.0
            assert np.all(fit.seconds(message, ranks, 2 * fit.link_bytes_per_s) < took)


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=5), st.floats(1.0, 40.0))
def test_smooth_max_lies_between_the_largest_and_the_sum(terms: list[float], p: float) -> None:
    value = float(smooth_max(terms, p))
    assert max(terms) * (1 - 1e-12) <= value <= sum(terms) * (1 + 1e-12)


def test_a_missing_type_falls_to_bf16_then_to_the_generic_profile_and_says_so() -> None:
    a100 = load_profile("a100-sxm-80gb")
    assert a100 is not None
    assert a100.fit("gemm").evidence == "fitted"
    fp8 = a100.fit("gemm", "fp8")
    assert (fp8.evidence, fp8.peak, fp8.error) == ("assumed", "fp8", None)
    assert "no fp8 fit, bf16's in its place" in fp8.source
    elementwise = a100.fit("elementwise")
    assert elementwise.memory_frac == 0.8
    assert "no elementwise fit for a100-sxm-80gb" in elementwise.source
    assert a100.fit("attention_decode", "fp8").peak == "bf16"
    assert a100.fit("gemm", "fp4").peak == "fp4"


def test_what_is_unknown_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="attention_decode"):
        generic().fit("atention_decode")
    with pytest.raises(InputError, match='Did you mean "fp8'):
        generic().fit("gemm", "fp88")
    with pytest.raises(InputError, match="silicon"):
        load_profile("h100-sxm", "silicone")


def test_a_device_without_a_profile_has_none() -> None:
    assert load_profile("tpu-v5e") is None
    assert generic().evidence == "assumed"
    assert load_profile("h100-sxm") == load_profile("h100-sxm", "silicon")


def test_a_mistake_in_a_profile_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(FITTED[0].read_text().replace("compute: 0.", "compute: 1.", 1))
    with pytest.raises(InputError, match=r"profile\.yaml:\d+: fits\.gemm\.bf16\.compute"):
        read_profile(path)


def test_a_switch_that_reduces_beats_the_ring() -> None:
    h100 = load_profile("h100-sxm")
    assert h100 is not None
    fit = h100.collective("all_reduce")
    assert isinstance(fit, CollectiveFit)
    assert fit.bandwidth_frac[8] > 1.0
    assert h100.collective("all_reduce", "custom").seconds(4096, 8) < fit.seconds(4096, 8) / 2  # type: ignore[union-attr]
