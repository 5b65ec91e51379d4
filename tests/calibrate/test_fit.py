"""Fits find the constants that samples were made with, say how far they are off, and survive being written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_device import BANDWIDTH, PEAK, SHARES, FakeBackend, FakeCopy, FakeGemm, seconds

from calibrate.case import Samples
from calibrate.figures import figures_of
from calibrate.fit import Fitted, Reference, fit_rows, gather, validation
from calibrate.plan import Plan, Planned, make_plan
from calibrate.session import device_name
from calibrate.store import Store
from calibrate.write import Measured, build, write_folder
from clustersim.cost.profile import load_profile, read_profile, user_folder
from clustersim.errors import InputError
from clustersim.hardware.accelerator import load_accelerator
from clustersim.hardware.figure import Figure

HELLO: dict[str, Any] = {
    "name": "Fake 1", "kind": "cpu", "memory_bytes": 8e9, "accelerator": "",
    "provenance": {"torch": "none", "kernel": "made up", "cache_bytes": "1000000"},
}  # fmt: skip


def made_plan(sizes: int = 6) -> Plan:
    backend, found = FakeBackend(), list[Planned]()
    for bench in (FakeGemm(sizes), FakeCopy()):
        found += [Planned(case, bench.work(case), bench.family) for case in bench.cases("full", backend)]
    return make_plan("full", "Fake 1", found)


def made_samples(plan: Plan, noise: float = 0.005, between: float = 0.01) -> list[Samples]:
    draw = np.random.default_rng(0)
    found = []
    for repetition in range(3):
        for each in plan.cases:
            true = seconds(each.work) if each.family else each.work.bytes / BANDWIDTH
            shift = 1 + between * abs(draw.standard_normal())
            drawn = true * shift * (1 + noise * np.abs(draw.standard_normal(20)))
            found.append(
                Samples(each.case, tuple(drawn), "cpu", repetition=repetition, notes={"power_w": 30.0})
            )
    return found


def fitted(plan: Plan, reference: Reference, **settings: Any) -> Fitted:
    rows = [row for row in gather(plan.cases, made_samples(plan)) if row.planned.family]
    found = fit_rows("gemm", "bf16", rows, reference, "made", **settings)
    assert isinstance(found, Fitted)
    return found


def test_the_constants_are_found_again_with_their_intervals() -> None:
    found = fitted(made_plan(), Reference({"bf16": PEAK}, BANDWIDTH))
    fit = found.fit
    assert fit.memory_frac == pytest.approx(SHARES["memory"], rel=0.05)
    assert fit.compute_frac == pytest.approx(SHARES["compute"], rel=0.3)
    assert fit.evidence == "measured"
    assert fit.error is not None
    assert fit.error.median_ape_frac < 0.02
    assert fit.error.median_ape_frac < fit.error.baseline_median_ape_frac
    assert fit.error.num_test == fit.num_rows == 36
    low, high = fit.intervals["memory_frac"]
    assert low <= fit.memory_frac * 1.01
    assert high >= fit.memory_frac * 0.99
    assert high - low < 0.1
    whole = validation([found])
    assert whole is not None
    assert whole.cv_ape_frac == pytest.approx(fit.error.median_ape_frac, rel=1e-3)


def test_rows_that_beat_the_roofline_are_refused_and_too_few_are_not_fitted() -> None:
    plan = made_plan()
    assert fitted(plan, Reference({"bf16": PEAK}, BANDWIDTH * 0.7), draws=0).fit.num_refused > 0
    rows = gather(plan.cases, made_samples(plan))[:3]
    assert "a fit needs" in str(fit_rows("gemm", "bf16", rows, Reference({"bf16": PEAK}, BANDWIDTH), "made"))
    assert "no data type" in str(fit_rows("gemm", "fp7", rows, Reference({"bf16": PEAK}, BANDWIDTH), "made"))
    assert "no bf16 peak" in str(fit_rows("gemm", "bf16", rows, Reference({}, BANDWIDTH), "made"))


def test_a_cpu_is_known_by_what_it_did_and_no_row_beats_that() -> None:
    plan = made_plan()
    rows = gather(plan.cases, made_samples(plan))
    found = figures_of(rows, HELLO, "local-cpu", "2026-01-01")
    assert found is not None
    figures, reference = found
    assert figures.fractions_of == "measured"
    assert figures.memory_bandwidth_bytes_per_s is not None
    assert figures.memory_bandwidth_bytes_per_s.value == pytest.approx(BANDWIDTH, rel=0.02)
    for row in rows:
        assert row.planned.work.flops / row.summary.median_s <= reference.flops_per_s["bf16"] * (1 + 1e-9)
    assert figures_of(rows[:0], HELLO, "local-cpu", "2026-01-01") is None


def test_a_gpu_of_known_datasheet_keeps_its_peaks() -> None:
    plan = made_plan()
    rows = gather(plan.cases, made_samples(plan))
    found = figures_of(rows, {**HELLO, "kind": "gpu"}, "h100-sxm", "2026-01-01")
    assert found is not None
    assert found[0].fractions_of == "datasheet"
    assert found[1].flops_per_s["bf16"] == load_accelerator("h100-sxm").bf16_flops_per_s.value


@pytest.mark.parametrize(
    ("driver", "kind", "device"),
    [
        ("NVIDIA H100 80GB HBM3", "gpu", "h100-sxm"),
        ("NVIDIA H100 PCIe", "gpu", "h100-pcie"),
        ("NVIDIA H100 NVL", "gpu", "h100-nvl"),
        ("NVIDIA A100-SXM4-80GB", "gpu", "a100-sxm-80gb"),
        ("NVIDIA H200", "gpu", "h200-sxm"),
        ("NVIDIA L40S", "gpu", "l40s"),
        ("AMD Instinct MI300X", "gpu", "mi300x"),
        ("NVIDIA GeForce RTX 4090", "gpu", "rtx-4090"),
        ("Made Up 1", "gpu", "made-up-1"),
        ("Intel(R) Xeon(R) 2.1 GHz", "cpu", "local-cpu"),
    ],
)
def test_a_driver_names_its_accelerator(driver: str, kind: str, device: str) -> None:
    assert device_name({"name": driver, "kind": kind}) == device


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTERSIM_PROFILES", str(tmp_path))
    plan, store = made_plan(), Store(tmp_path / ".runs" / "x")
    for samples in made_samples(plan):
        store.add(samples)
    store.add_verdict("b", 0.02, invalid=False)
    store.add_error(plan.cases[0].case, 0, "failed", "once")
    measured = Measured.of(
        plan, store, HELLO, device="local-cpu", name="mine", contended=False, gaps={"x": "y"}
    )
    profile, _ = build(measured)
    return write_folder(profile, measured, store, tmp_path)


def test_what_is_written_is_what_clustersim_loads(written: Path, tmp_path: Path) -> None:
    assert user_folder() == tmp_path
    profile = load_profile("local-cpu")
    assert profile is not None
    assert profile == read_profile(written / "profile.yaml")
    assert (profile.name, profile.evidence, profile.unvalidated) == ("mine", "measured", True)
    assert profile.fit("gemm").evidence == "measured"
    assert profile.fit("elementwise").evidence == "assumed"
    assert profile.validation is not None
    assert profile.gaps == {"x": "y"}
    assert profile.quality is not None
    assert (profile.quality.coverage_frac, profile.quality.canary_drift_frac) == (1.0, 0.02)
    assert profile.power["gemm"].value == 30.0
    assert profile.provenance.machine["kernel"] == "made up"
    assert len(profile.provenance.plan_hash) == 12


def test_tables_and_samples_hold_every_row_and_the_manifest_every_file(written: Path) -> None:
    table = pd.read_parquet(written / "tables" / "gemm.bf16.parquet")
    shape = ["op", "cache", "m", "n", "k", "flops", "bytes", "depth", "tasks"]
    assert set(table) >= {*shape, "seconds", "spread_s", "count", "flags"}
    assert len(table) == 36
    assert (table["count"] == 60).all()
    raw = pd.read_parquet(written / "samples" / "gemm.parquet")
    assert len(raw) == 36 * 60
    assert set(raw) >= {"key", "repetition", "seq", "seconds", "note_power_w"}
    manifest = json.loads((written / "manifest.json").read_text())
    assert {"profile.yaml", "errors.jsonl", "plan.json", "tables/gemm.bf16.parquet"} <= set(manifest)
    for name, entry in manifest.items():
        assert hashlib.sha256((written / name).read_bytes()).hexdigest() == entry["sha256"]


def test_a_folder_that_is_no_profile_is_not_replaced(written: Path, tmp_path: Path) -> None:
    (tmp_path / "local-cpu" / "yours").mkdir()
    plan, store = made_plan(), Store(tmp_path / ".runs" / "x")
    measured = Measured.of(plan, store, HELLO, device="local-cpu", name="yours", contended=True)
    profile, _ = build(measured)
    with pytest.raises(InputError, match="is no profile"):
        write_folder(profile, measured, store, tmp_path)
    (tmp_path / "local-cpu" / "yours").rmdir()
    write_folder(profile, measured, store, tmp_path)
    write_folder(profile, measured, store, tmp_path)
    assert sorted(path.name for path in (tmp_path / "local-cpu").iterdir()) == ["mine", "yours"]
    best = load_profile("local-cpu")
    assert best is not None
    assert best.name == "mine", "a contended profile yields to any other"
    yours = load_profile("local-cpu", "yours")
    assert yours is not None
    assert yours.quality is not None
    assert yours.quality.contended


def test_measured_figures_replace_a_specification_but_nothing_that_the_user_set(written: Path) -> None:
    profile = read_profile(written / "profile.yaml")
    xeon = load_accelerator("xeon-8480-amx")
    assert profile.device_figures is not None
    applied = profile.applied_to(xeon)
    assert applied.bf16_flops_per_s == profile.device_figures.peak_flops_per_s["bf16"]
    assert applied.memory_bandwidth_bytes_per_s.evidence == "measured"
    assert applied.tdp_w == xeon.tdp_w
    mine = xeon.model_copy(update={"memory_bandwidth_bytes_per_s": Figure[float](value=1e9)})
    assert profile.applied_to(mine).memory_bandwidth_bytes_per_s.value == 1e9
    of_datasheet = profile.device_figures.model_copy(update={"fractions_of": "datasheet"})
    assert profile.model_copy(update={"device_figures": of_datasheet}).applied_to(xeon) == xeon


def test_a_measured_profile_is_completed_by_the_next_best(written: Path, tmp_path: Path) -> None:
    plan, store = made_plan(), Store(tmp_path / ".runs" / "x")
    hello = {**HELLO, "kind": "gpu"}
    measured = replace_device(
        Measured.of(plan, store, hello, device="h100-sxm", name="mine", contended=False)
    )
    profile, _ = build(measured)
    write_folder(profile, measured, store, tmp_path)
    best, silicon = load_profile("h100-sxm"), load_profile("h100-sxm", "silicon")
    assert best is not None
    assert silicon is not None
    assert best.name == "mine"
    assert best.fits["gemm"]["bf16"].evidence == "measured"
    assert best.fits["moe"] == silicon.fits["moe"]
    assert best.collectives == silicon.collectives


def replace_device(measured: Measured) -> Measured:
    """Make every row a thousand times faster: rows of an H100, not of the fake device."""
    from calibrate.fit import gather as again

    fast = [
        replace(run, seconds=tuple(s / 300 for s in run.seconds)) for row in measured.rows for run in row.runs
    ]
    measured.rows = again(measured.plan.cases, fast)
    return measured


def test_cold_and_warm_rows_are_fitted_together() -> None:
    """A norm finds what the operator before left; an embedding's table is cold: both are what a step has."""
    plan = made_plan()
    half = [
        replace(each, case=replace(each.case, cache="warm")) if index % 2 else each
        for index, each in enumerate(plan.cases)
    ]
    found = fitted(replace(plan, cases=tuple(half)), Reference({"bf16": PEAK}, BANDWIDTH), draws=0)
    assert {row.case.cache for row in found.rows} == {"cold", "warm"}
    assert found.fit.num_rows == 36


def test_runs_on_a_slowed_core_are_flagged_and_set_aside() -> None:
    plan = made_plan()
    samples = [
        replace(
            each, seconds=tuple(s * (1.5 if each.repetition else 1.0) for s in each.seconds),
            notes={"spacer_s": 1.5e-3 if each.repetition else 1e-3},
        )
        for each in made_samples(plan)
    ]  # fmt: skip
    rows = gather(plan.cases, samples)
    assert all([run.repetition for run in row.runs] == [0] for row in rows)
    assert not any("slowed" in row.flags for row in rows)
    key = plan.cases[0].case.key
    left = [each for each in samples if each.case.key != key or each.repetition]
    (row,) = (row for row in gather(plan.cases, left) if row.case.key == key)
    assert "slowed" in row.flags
    assert len(row.runs) == 2, "there are no others"
