"""Fitting: it finds constants it was given, and stored profiles are what the package's tables give."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrate import DEVICES, FAMILIES, read_table, tables_folder
from calibrate.silicon import fit_collective, fit_family, write_profile
from clustersim.cost.profile import load_profile, read_profile, smooth_max
from clustersim.hardware.accelerator import load_accelerator

H100 = load_accelerator("h100-sxm")


def gemms(seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    m, n, k = (2.0 ** draw.integers(low, high, 2000) for low, high in ((0, 14), (10, 16), (10, 15)))
    return pd.DataFrame({"m": m, "n": n, "k": k + draw.integers(0, 64, 2000), "latency": 0.0, "seconds": 0.0})


def made(table: pd.DataFrame, share: float = 0.7) -> pd.DataFrame:
    rows = FAMILIES["gemm"].work(table, "bf16")
    compute = rows.flops / (H100.bf16_flops_per_s.value * share)
    memory = rows.bytes / (H100.memory_bandwidth_bytes_per_s.value * 0.85)
    return table.assign(seconds=smooth_max([compute, memory, rows.depth * 4e-10], 3.0) + 4e-6)


def test_constants_are_found_again() -> None:
    fit = fit_family("gemm", "bf16", made(gemms()), H100, "made")
    assert fit is not None
    assert fit.compute_frac == pytest.approx(0.7, rel=0.01)
    assert fit.memory_frac == pytest.approx(0.85, rel=0.01)
    assert fit.overhead_s == pytest.approx(4e-6, rel=0.05)
    assert fit.smoothness == pytest.approx(3.0, rel=0.1)
    assert fit.span_s == pytest.approx(4e-10, rel=0.1)
    assert fit.error is not None
    assert fit.error.p90_ape_frac < 0.01


def test_rows_that_beat_the_roofline_are_refused_and_counted() -> None:
    table = made(gemms())
    table.loc[:99, "seconds"] = 1e-9
    fit = fit_family("gemm", "bf16", table, H100, "made")
    assert fit is not None
    assert fit.num_refused == 100
    assert fit.compute_frac == pytest.approx(0.7, rel=0.01)


def test_a_ring_is_found_again() -> None:
    ranks, elements = (grid.ravel() for grid in np.meshgrid([2, 4, 8], 2 ** np.arange(8, 29)))
    wire = 2 * (ranks - 1) / ranks * elements * 2 / (450e9 * 0.8)
    table = pd.DataFrame(
        {"num_gpus": ranks, "message_size": elements, "seconds": 5e-6 + 2e-6 * (ranks - 1) + wire}
    )
    fit = fit_collective("all_reduce", table, 450e9, "made")
    assert fit.launch_s == pytest.approx(5e-6, rel=0.05)
    assert fit.hop_s == pytest.approx(1e-6, rel=0.05)
    assert list(fit.bandwidth_frac.values()) == pytest.approx([0.8] * 3, rel=0.02)


def test_writing_a_profile_and_reading_it_gives_the_same(tmp_path: Path) -> None:
    profile = load_profile("l40s")
    assert profile is not None
    assert read_profile(write_profile(profile, tmp_path)) == profile


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("aiconfigurator"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"clustersim\[silicon\]"):
        tables_folder()


@pytest.mark.parametrize(("device", "family"), [("h100-sxm", "mla_decode"), ("b200-sxm", "mla_prefill")])
def test_fitting_again_gives_what_is_stored(device: str, family: str) -> None:
    pytest.importorskip("aiconfigurator_core", reason="the measured tables come with the extra `silicon`")
    table, source = read_table(DEVICES[device], FAMILIES[family])
    again = fit_family(
        family, "bf16", table[table.kv_cache_dtype == "bfloat16"], load_accelerator(device), source
    )
    profile = load_profile(device)
    assert profile is not None
    stored = profile.fits[family]["bf16"]
    assert again is not None
    assert (again.num_rows, again.num_refused, again.source) == (stored.num_rows, stored.num_refused, source)
    for constant in ("compute_frac", "memory_frac", "overhead_s", "smoothness"):
        assert getattr(again, constant) == pytest.approx(getattr(stored, constant), rel=0.02), constant
    assert again.error is not None
    assert stored.error is not None
    assert again.error.median_ape_frac == pytest.approx(stored.error.median_ape_frac, rel=0.05)
