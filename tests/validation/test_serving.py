"""Predictions of a small balanced set of measured serving runs stay within generous bounds: a guard, not a score."""

from pathlib import Path

import pytest
from predict import predict_all, read, sample

TABLE = Path(__file__).parents[3] / "shared" / "validation" / "serving.csv"
pytestmark = pytest.mark.skipif(
    not TABLE.exists(), reason="the table of measurements is not beside the repository"
)

#: Kind of metric -> bounds on the median and the p90 absolute error, well above what they are (docs/validation.md).
BOUNDS = {"TPOT": (0.25, 0.80), "TTFT": (0.60, 1.20), "throughput": (0.20, 0.60)}


def test_errors_stay_within_bounds() -> None:
    rows = read(TABLE)
    chosen = sample(rows[rows["load_kind"] != "arrival_trace"], most=2)
    found, refused = predict_all(chosen)
    assert len(found) > 0.75 * len(chosen), refused
    for kind, (median, p90) in BOUNDS.items():
        error = found.loc[found["kind"] == kind, "error"].abs()
        assert len(error) >= 20
        assert error.median() < median, (kind, error.describe())
        assert error.quantile(0.9) < p90, (kind, error.describe())


def test_step_times_beat_the_scaled_roofline() -> None:
    rows = read(TABLE)
    found, _ = predict_all(sample(rows[rows["kind"].isin(["TPOT", "throughput"])], most=2))
    assert found["error"].abs().median() < 0.75 * found["baseline"].abs().median()
