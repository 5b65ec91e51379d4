"""Replicas that come and go, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from clustersim import simulate
from clustersim.records import CUT_OFF, DRAINING, QUEUED, STARTING, UP, SpanRecords
from clustersim.results.held import HOLDING, WORKING, Held, fleet_metrics, held_by
from clustersim.scenario.plan import plan

#: Replica 0 dies at 10 and is up again at 16; replica 1 waits, starts, serves from 8, is cut off a while and drains.
SPANS = [
    (0, UP, 0, 10), (0, QUEUED, 10, 12), (0, STARTING, 12, 16), (0, UP, 16, np.nan),
    (1, QUEUED, 3, 5), (1, STARTING, 5, 8), (1, UP, 8, 12), (1, CUT_OFF, 12, 13), (1, UP, 13, 15), (1, DRAINING, 15, 18),
    (1, QUEUED, 19, 19), (1, STARTING, 19, 20),
]  # fmt: skip


def held(window: tuple[float, float], rows: list[tuple[int, int, float, float]] = SPANS) -> Held:
    spans = SpanRecords(4)
    for replica, state, start, end in rows:
        row = spans.add()
        spans.replica[row], spans.state[row] = replica, state
        spans.start_s[row], spans.end_s[row] = start, end
    scenario = toy.scenario(deployment={"autoscaler": {"kind": "reactive", "max_replicas": 2}})
    return held_by(plan(scenario)[0], 0, spans, window)


def test_states_are_counted_by_hand() -> None:
    ours = held((0.0, 20.0))
    assert ours.mean(*WORKING) * 20 == pytest.approx(14 + 10)
    assert ours.mean(*HOLDING) * 20 == pytest.approx(18 + 14)
    assert ours.over(np.array([0.0, 10.0, 20.0]), *WORKING).tolist() == pytest.approx([12.0, 12.0])
    assert ours.most == 2
    assert held((10.0, 11.0)).most == 1
    assert held((10.0, 11.0)).mean(*HOLDING) == pytest.approx(1.0)


def test_fleet_metrics_are_counted_by_hand() -> None:
    changes = {"kind": "node", "at": ["1 h"]}
    scenario = toy.scenario(
        deployment={"autoscaler": {"kind": "reactive", "max_replicas": 2}, "parallelism": {"tp": 4}},
        failures=[changes],
        workload={"num_requests": 3},
    )
    result = simulate(scenario)
    found = fleet_metrics(scenario, result.plans[0], result.served[0], held((0.0, 20.0)))
    assert found["gpu_hours"] == pytest.approx(4 * 32 / 3600)
    assert found["cold_starts"] == 2
    assert found["cold_start_s"] == pytest.approx((4 + 3) / 2)
    assert found["accelerator_wait_s"] == pytest.approx(2.0)
    up, down = 10 + 4 + (4 + 2 + 3), 6 + 1
    assert found["availability_frac"] == pytest.approx(up / (up + down))
    assert found["lost"] == found["retries"] == 0


def counted(rows: list[tuple[int, int, float, float]]) -> dict[str, Any]:
    """Return what spans come to in 20 s of a deployment on which failures may fall."""
    scenario = toy.scenario(
        deployment={"autoscaler": {"kind": "reactive", "max_replicas": 2}},
        failures=[{"kind": "node", "at": ["1 h"]}], workload={"num_requests": 3},
    )  # fmt: skip
    result = simulate(scenario)
    return fleet_metrics(scenario, result.plans[0], result.served[0], held((0.0, 20.0), rows))


def test_a_start_that_was_cut_short_is_no_cold_start() -> None:
    """It dies while it loads, waits and starts again; or, with no wait, at once."""
    for wait_s in (2.0, 0.0):
        again = 6.0 + wait_s
        found = counted(
            [
                (0, STARTING, 2, 6),
                (0, QUEUED, 6, again),
                (0, STARTING, again, again + 3),
                (0, UP, again + 3, np.nan),
            ]
        )
        assert (found["cold_starts"], found["cold_start_s"], found["accelerator_wait_s"]) == (1, 3.0, wait_s)
        assert found["gpu_hours"] * 3600 == pytest.approx(18.0 - wait_s)
        assert found["availability_frac"] == 1.0, "it was never up before"


def test_a_replica_that_is_renewed_while_it_idles_was_never_down() -> None:
    """It drains in the instant; one that dies is queued in the instant."""
    rest = [(0, STARTING, 5, 10), (0, UP, 10, np.nan)]
    assert counted([(0, UP, 0, 5), (0, DRAINING, 5, 5), *rest])["availability_frac"] == 1.0
    assert counted([(0, UP, 0, 5), (0, QUEUED, 5, 5), *rest])["availability_frac"] == pytest.approx(15 / 20)


def test_only_cold_starts_that_end_in_the_window_count() -> None:
    found = counted([(0, STARTING, 18, 22), (0, UP, 22, np.nan), (1, STARTING, -3, 1), (1, UP, 1, np.nan)])
    assert (found["cold_starts"], found["cold_start_s"]) == (1, 4.0)
    assert found["gpu_hours"] * 3600 == pytest.approx(2 + 20)


def test_fixed_replicas_are_what_they_were() -> None:
    fixed = Held(3, (0.0, 5.0))
    assert fixed.mean(*WORKING) == fixed.most == 3
    assert fixed.over(np.array([0.0, 2.0, 5.0]), *HOLDING).tolist() == [6.0, 9.0]
    result = simulate(toy.scenario(workload={"num_requests": 3}))
    assert fleet_metrics(result.scenario, result.plans[0], result.served[0], fixed) == {}
    assert "replicas_on" not in result.timeline


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=8),
    st.floats(0, 20),
    st.floats(1, 40),
)
def test_bins_add_up_to_the_window(bounds: list[tuple[float, float]], start: float, length: float) -> None:
    rows = [(index % 2, UP, *sorted(pair)) for index, pair in enumerate(bounds)]
    window = (start, start + length)
    ours = held(window, rows)
    edges = np.linspace(*window, 7)
    whole = float(ours.over(np.array(window), UP)[0])
    assert ours.over(edges, UP).sum() == pytest.approx(whole, abs=1e-6)
    inside = sum(max(0.0, min(end, window[1]) - max(begin, window[0])) for _, _, begin, end in rows)
    assert whole == pytest.approx(inside, abs=1e-6)
    assert ours.most <= len(bounds)


def test_dollars_and_joules_follow_what_was_held() -> None:
    """Two replicas of which one starts at half time cost what one and a half cost."""
    times = [{"from": "0 s", "replicas": 1}, {"from": "50 s", "replicas": 2}]
    scaler = {"kind": "scheduled", "max_replicas": 2, "interval": "0.5 s", "times": times}
    instant = {"provision": "0 s", "warm_up": "0 s", "weights_from": "host_memory"}
    workload = {"num_requests": 100, "arrivals": {"kind": "deterministic", "rate": "1 req/s"}}
    scaled = simulate(
        toy.scenario(
            deployment={"autoscaler": scaler, "startup": instant}, workload=workload, horizon="100 s"
        )
    )
    fixed = simulate(toy.scenario(deployment={"replicas": 2}, workload=workload, horizon="100 s"))
    assert scaled["usd"] == pytest.approx(0.75 * fixed["usd"], rel=0.02)
    assert scaled["gpu_hours"] == pytest.approx(1.5 * 100 / 3600, rel=0.02)
    assert scaled["tokens_per_s_per_gpu"] == pytest.approx(fixed["tokens_per_s_per_gpu"] / 0.75, rel=0.02)
    assert scaled["num_accelerators"] == 2
    assert scaled.timeline["power_w"].iloc[300] > scaled.timeline["power_w"].iloc[100]
