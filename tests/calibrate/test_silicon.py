"""Fitting: it finds constants it was given, and stored profiles are what the package's tables give."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrate import DEVICES, FAMILIES, read_table, tables_folder
from calibrate.silicon import fit_collective, fit_family, write_profile
from calibrate.silicon_tables import measured_rows, split, spread, thinned, write_tables
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


def wavy() -> pd.DataFrame:
    table = made(gemms())
    return table.assign(
        seconds=table.seconds * (1.15 + 0.15 * np.sin(np.log2(table.m.to_numpy(dtype=float))))
    )


def test_rows_are_kept_where_they_help_and_none_is_held_out() -> None:
    table = wavy()
    parts, fit = split("gemm", "bf16", table, H100), fit_family("gemm", "bf16", table, H100, "made")
    assert fit is not None
    kept = measured_rows(fit, parts, H100)
    assert kept is not None
    frame, error = kept
    assert fit.error is not None
    assert error.median_ape_frac < 0.7 * fit.error.median_ape_frac
    stored = set(zip(frame.m, frame.n, frame.k, strict=True))
    unseen = parts.table[parts.held | parts.trial]
    assert stored.isdisjoint(zip(unseen.m, unseen.n, unseen.k, strict=True))
    assert len(frame) <= 1000


def test_rows_that_do_not_help_are_not_kept() -> None:
    noise = np.exp(np.random.default_rng(1).normal(0, 0.2, 2000))
    table = made(gemms())
    table = table.assign(seconds=table.seconds * np.maximum(noise, 0.9))
    fit = fit_family("gemm", "bf16", table, H100, "made")
    assert fit is not None
    assert measured_rows(fit, split("gemm", "bf16", table, H100), H100) is None


def test_thinning_takes_model_shapes_first_and_spreads() -> None:
    parts = split("gemm", "bf16", made(gemms()), H100)
    assert len(thinned(parts, 100)) == len(set(thinned(parts, 100).tolist())) == 100
    assert (parts.train & ~parts.trial)[thinned(parts, 100)].all()
    line = np.linspace(0.0, 1.0, 101)[:, None]
    assert sorted(spread(line, 3).tolist()) == [0, 50, 100]
    assert len(spread(line, 0)) == 0


def test_tables_are_the_same_bytes_again(tmp_path: Path) -> None:
    table = wavy()
    parts, fit = split("gemm", "bf16", table, H100), fit_family("gemm", "bf16", table, H100, "made")
    assert fit is not None
    kept = measured_rows(fit, parts, H100)
    assert kept is not None
    for name in ("a", "b"):
        write_tables({"gemm.bf16.parquet": kept[0]}, tmp_path / name)
    first, second = (tmp_path / name / "gemm.bf16.parquet" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    write_tables({}, tmp_path / "a")
    assert not first.exists()
