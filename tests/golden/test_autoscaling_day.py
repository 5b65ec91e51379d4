"""A day of autoscaling with failures gives the metrics that are stored; `pytest --update-golden` stores them anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clustersim import load, simulate

STORED = Path(__file__).parent / "autoscaling_day.json"
KEYS = (
    "num_requests", "completed", "failed", "total_output", "p50_ttft_ms", "p99_ttft_ms", "p50_tpot_ms", "p99_tpot_ms",
    "p50_e2el_ms", "goodput_frac", "utilisation", "energy_kwh", "usd", "gpu_hours", "mean_replicas_on", "cold_starts",
    "cold_start_s", "accelerator_wait_s", "availability_frac", "retries", "lost", "lost_tokens", "num_accelerators",
)  # fmt: skip


def test_a_day_of_autoscaling_with_failures(update_golden: bool) -> None:
    result = simulate(load("autoscaling_day"))
    frame = result.timeline
    hour = (frame["time_s"] // 3600).astype(int)
    found = {key: result[key] for key in KEYS}
    found["replicas_on_by_hour"] = frame.groupby(hour)["replicas_on"].mean().tolist()
    if update_golden:
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    stored = json.loads(STORED.read_text())
    by_hour = stored.pop("replicas_on_by_hour")
    assert found.pop("replicas_on_by_hour") == pytest.approx(by_hour, rel=1e-9)
    assert found == pytest.approx(stored, rel=1e-9)
    # What the scenario is there to show.
    assert max(by_hour[11:17]) > 3 * max(by_hour[0:3])
    assert stored["retries"] > 0
    assert stored["lost"] == 0
    assert stored["availability_frac"] < 1
    assert stored["gpu_hours"] < 0.5 * 24 * 2 * 12
    assert stored["goodput_frac"] > 0.99
