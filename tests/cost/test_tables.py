"""Measured rows correct the law near them, and nowhere else."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import toy

from clustersim.cost.profile import folder, read_profile
from clustersim.cost.tables import OpTable, load_table
from clustersim.hardware.accelerator import load_accelerator
from clustersim.models.step import StepShape
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario

WORK = np.array([[1e9, 1e6, 128.0, 8.0], [1e10, 1e7, 256.0, 64.0], [1e12, 1e9, 4096.0, 512.0]])
LAW = np.array([1e-5, 2e-5, 1e-3])


def test_at_a_row_the_answer_is_nearly_the_measured_one() -> None:
    table = OpTable(WORK, LAW * [2.0, 0.5, 1.2], LAW)
    correction = table.correct(*WORK.T)
    assert correction.factor == pytest.approx([2.0, 0.5, 1.2], rel=0.05)
    assert correction.measured == pytest.approx(1.0, abs=1e-3)


def test_far_from_every_row_the_law_stands_exactly() -> None:
    table = OpTable(WORK, LAW * 2, LAW)
    correction = table.correct(1e20, 1e16, 1.0, 1.0)
    assert (float(correction.factor), float(correction.measured)) == (1.0, 0.0)


def test_factors_are_bounded_by_those_of_the_rows_finite_and_smooth() -> None:
    draw = np.random.default_rng(0)
    work = 10.0 ** draw.uniform([6, 3, 1, 0], [14, 10, 5, 4], (300, 4))
    law = np.full(300, 1e-4)
    table = OpTable(work, law * np.exp(draw.uniform(-0.5, 0.5, 300)), law)
    path = 10.0 ** np.linspace([6, 3, 1, 0], [14, 10, 5, 4], 4000)
    factor = table.correct(*path.T).factor
    assert np.isfinite(factor).all()
    assert factor.min() >= np.exp(-0.5) - 1e-6
    assert factor.max() <= np.exp(0.5) + 1e-6
    assert np.abs(np.diff(np.log(factor))).max() < 0.01
    assert np.isfinite(table.correct(0.0, 0.0, 0.0, 0.0).factor)


def test_shapes_broadcast_and_many_are_as_one_by_one() -> None:
    table = OpTable(WORK, LAW * [2.0, 0.5, 1.2], LAW)
    flops, bytes_ = np.array([[1e9], [3e9]]), np.array([1e6, 2e6, 1e6])
    many = table.correct(flops, bytes_, 128.0, 8.0).factor
    assert many.shape == (2, 3)
    one = [[float(table.correct(f, b, 128.0, 8.0).factor) for b in bytes_] for f in flops[:, 0]]
    assert many == pytest.approx(np.array(one), rel=1e-5)


def test_every_file_that_a_profile_names_is_there_and_none_beside() -> None:
    named = set()
    for path in folder().glob("*/*/profile.yaml"):
        profile = read_profile(path)
        for family, dtypes in profile.tables.items():
            for dtype in dtypes:
                file = profile.table_file(family, dtype)
                assert file is not None, (path, family, dtype)
                named.add(file.resolve())
                table = load_table(profile, family, dtype) if profile.device == "l40s" else None
                assert table is None or 20 < table.num_rows <= 1000
                assert profile.fits[family][dtype].table_error is not None
    files = {path.resolve() for path in folder().glob("*/*/tables/*.parquet")}
    assert files == named
    assert sum(path.stat().st_size for path in files) < 6e6


def _estimates(scenario: Scenario) -> list[tuple[float, float]]:
    (each,) = plan(scenario)
    found = []
    for batch, context in itertools.product((1, 9, 64, 200), (1, 500, 8000)):
        for op in each.cost.ops(StepShape(batch, batch * context, 300, 45150, 300, 1, 300)):
            if op.family not in ("all_reduce", "all_gather", "send"):
                peak = each.cost.fit(op.family, op.dtype)[1]
                bandwidth = each.cost.device.memory_bandwidth_bytes_per_s.value
                raw = max(float(op.flops) / peak, float(op.bytes) / bandwidth)
                found.append((float(each.cost.estimate(op, True).seconds), raw))
    return found


def test_no_corrected_operator_beats_the_roofline() -> None:
    assert all(seconds >= raw * (1 - 1e-12) for seconds, raw in _estimates(toy.scenario()))


def test_the_correction_is_that_of_the_measured_device_whatever_the_user_sets() -> None:
    """More bandwidth is never slower: factors do not depend on the peaks of the device that is simulated."""
    (each,) = plan(toy.scenario())
    device = load_accelerator("h100-sxm")
    bandwidth = device.memory_bandwidth_bytes_per_s
    wider = device.model_copy(
        update={"memory_bandwidth_bytes_per_s": bandwidth.model_copy(update={"value": bandwidth.value * 1.3})}
    )
    faster = replace(each.cost, device=wider)
    for op in each.cost.ops(StepShape.decode(64, 2000)):
        assert faster.estimate(op, True).seconds <= each.cost.estimate(op, True).seconds * (1 + 1e-12)


def test_neighbouring_steps_differ_little_the_wrong_way() -> None:
    """Kernels switch, so that measured times are not strictly monotone; a step's stay nearly so."""
    for model in ("llama-3.1-8b", "gpt-oss-120b"):
        (each,) = plan(toy.scenario(deployment={"model": model}))
        contexts, batches = [2**i for i in range(13)], (1, 2, 3, 7, 16, 31, 64, 65, 128, 129, 256)
        decode = np.array([[each.step_time.decode(b).at(b * c) for c in contexts] for b in batches])
        assert (decode[:, 1:] > 0.95 * decode[:, :-1]).all()
        assert (decode[1:] > 0.95 * decode[:-1]).all()


def test_where_rows_answer_the_error_is_theirs() -> None:
    (each,) = plan(toy.scenario())
    (op,) = [op for op in each.cost.ops(StepShape.decode(16, 2047)) if op.name == "mlp_down"]
    fit = each.cost.fit(op.family, op.dtype)[0]
    estimate = each.cost.estimate(op, True)
    assert fit.error is not None
    assert fit.table_error is not None
    assert estimate.rel_error is not None
    assert fit.table_error.median_ape_frac <= estimate.rel_error < fit.error.median_ape_frac
    assert float(estimate.measured) > 0.5


def test_rows_of_one_kernel_alone_answer_for_it(tmp_path, monkeypatch) -> None:
    """A draw of a token takes a hundred times as long as a norm of as many bytes."""
    rows = pd.DataFrame(
        {"op": ["norm", "sampling"], "flops": 0.0, "bytes": 1e6, "depth": 0.0, "tasks": 0.0, "seconds": [1e-4, 1e-2]}
    )  # fmt: skip
    file = tmp_path / "elementwise.parquet"
    rows.to_parquet(file)
    profile = read_profile(folder() / "l40s" / "silicon" / "profile.yaml")
    monkeypatch.setattr(type(profile), "table_file", lambda *_: file)
    found = {
        kernel: load_table(profile, "elementwise", "bf16", kernel) for kernel in ("norm", "sampling", "")
    }
    assert load_table(profile, "elementwise", "bf16", "top_k") is None
    assert [table and table.num_rows for table in found.values()] == [1, 1, 2]
    factors = [float(table.correct(0.0, 1e6, 0.0, 0.0).factor) for table in found.values() if table]
    assert factors[1] / factors[0] == pytest.approx(100, rel=0.3)
