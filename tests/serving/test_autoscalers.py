"""How many replicas each autoscaler asks for."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustersim.kinds import OneOf, kinds
from clustersim.serving.autoscalers import Autoscaler, Seen
from clustersim.serving.autoscalers.predictive import Forecast, Predictive

CALM = Seen(0.0, 1, 1, 0, 0, 0, 0.0, 0, 60.0)


def scaler(kind: str, **settings: Any) -> Autoscaler:
    made = OneOf("autoscaler").validate({"kind": kind, "max_replicas": 100, **settings})
    assert isinstance(made, Autoscaler)
    return made


@given(st.integers(1, 40), st.integers(0, 5000), st.floats(1, 100))
def test_reactive_is_the_horizontal_pod_autoscalers_rule(replicas: int, requests: int, target: float) -> None:
    want = scaler("reactive", target_requests=target).start()
    found = want(CALM._replace(replicas=replicas, up=replicas, outstanding_requests=requests))
    exact = requests / target
    if abs(exact / replicas - 1) <= 0.1:
        assert found == replicas
    else:
        assert exact - 1e-6 <= found < exact + 1 + 1e-6


def test_the_queue_adds_many_and_takes_one() -> None:
    want = scaler("queue_depth", target_waiting=5).start()
    seen = CALM._replace(replicas=4, up=4, outstanding_requests=90, waiting_requests=31)
    assert want(seen) == 7
    assert want(seen._replace(waiting_requests=2)) == 4, "it never takes one while somebody waits"
    assert want(seen._replace(waiting_requests=0, kv_frac=0.4)) == 3
    assert want(seen._replace(waiting_requests=0, kv_frac=0.6)) == 4, "three would be four fifths full"
    assert want(seen._replace(waiting_requests=0, outstanding_requests=0)) == 0


def test_kv_usage_brings_the_share_to_its_target() -> None:
    want = scaler("kv_usage", target_kv=0.5).start()
    seen = CALM._replace(replicas=4, up=4, outstanding_requests=9)
    assert want(seen._replace(kv_frac=0.9)) == 8
    assert want(seen._replace(kv_frac=0.52)) == 4
    assert want(seen._replace(kv_frac=0.2)) == 2
    assert want(seen._replace(kv_frac=0.2, waiting_requests=1)) == 8, "who waits found no room"
    assert want(CALM._replace(replicas=0, up=0, waiting_requests=1)) == 1


def test_concurrency_takes_the_mean_of_a_minute_and_panics_on_six_seconds() -> None:
    want = scaler("concurrency", target_requests=10, utilisation=0.7).start()
    seen = CALM._replace(replicas=2, up=2)
    for at in range(0, 60, 2):
        assert want(seen._replace(now_s=float(at), outstanding_requests=14)) == 2
    # A burst: the minute's mean hardly moves, that of six seconds asks for twice the replicas that are up.
    assert want(seen._replace(now_s=60.0, outstanding_requests=20)) == 3
    panicked = [want(seen._replace(now_s=at, outstanding_requests=70)) for at in (62.0, 64.0, 66.0)]
    assert panicked[-1] == 10
    # Once calm it keeps the most it wanted until a minute has passed without cause.
    ups = CALM._replace(replicas=10, up=10, outstanding_requests=7)
    assert want(ups._replace(now_s=90.0)) == 10
    calm = [want(ups._replace(now_s=float(at))) for at in range(92, 200, 2)]
    assert calm[-1] == 1


def test_the_planner_moves_by_one_and_waits_for_what_it_did() -> None:
    want = scaler("planner").start()
    seen = CALM._replace(now_s=180.0, replicas=3, up=3, outstanding_requests=9)
    assert want(seen._replace(kv_frac=0.95)) == 4
    assert want(seen._replace(now_s=360.0, replicas=4, up=3, kv_frac=0.1)) == 4, "one is on its way"
    assert want(seen._replace(now_s=540.0, replicas=4, up=4, kv_frac=0.1)) == 4, "grace"
    assert want(seen._replace(now_s=900.0, replicas=4, up=4, kv_frac=0.1)) == 3
    assert want(seen._replace(now_s=1080.0, kv_frac=0.7)) == 3
    late = seen._replace(now_s=1800.0, replicas=4, up=3)
    assert want(late) == 4, "one is on its way"
    assert want(late._replace(outstanding_requests=0)) == 3, "and nobody waits for it"
    queue = scaler("planner", watch="queue").start()
    assert queue(seen._replace(waiting_requests=16)) == 4
    assert queue(seen._replace(waiting_requests=15)) == 3


def test_the_schedule_looks_a_cold_start_ahead() -> None:
    times = [{"from": "8 h", "replicas": 8}, {"from": "20 h", "replicas": 2}]
    made = scaler("scheduled", times=times)
    want = made.start()
    hour = 3600.0
    found = {
        at: want(CALM._replace(now_s=at * hour, start_s=600.0))
        for at in (0.0, 7.8, 7.9, 12.0, 19.9, 20.1, 31.9)
    }
    assert found == {0.0: 2, 7.8: 2, 7.9: 8, 12.0: 8, 19.9: 8, 20.1: 2, 31.9: 8}
    assert made.floor == 2
    with pytest.raises(ValueError, match="must rise"):
        scaler("scheduled", times=times[::-1])
    with pytest.raises(ValueError, match="more than max_replicas"):
        scaler("scheduled", times=times, max_replicas=7)
    with pytest.raises(ValueError, match="2 replicas are fewer than min_replicas: 3"):
        scaler("scheduled", times=times, min_replicas=3)


def test_the_schedule_has_replicas_up_whenever_it_looks_and_however_short_a_peak_is() -> None:
    """Looks come each 10 s and a start takes 60 s: the last look before 30 s ahead of a peak must see it."""
    times = [
        {"from": "0 s", "replicas": 1},
        {"from": "200 s", "replicas": 5},
        {"from": "220 s", "replicas": 2},
    ]
    want = scaler("scheduled", times=times, interval="10 s", period="1000 s").start()
    found = [
        want(CALM._replace(now_s=at, start_s=60.0))
        for at in (129.0, 130.0, 139.0, 210.0, 219.0, 221.0, 929.0)
    ]
    assert found == [1, 5, 5, 5, 5, 2, 2]
    assert want(CALM._replace(now_s=990.0, start_s=300.0)) == 5, "the next day's"


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="panic_window: 6 s is more than window: 5 s"):
        scaler("concurrency", window="5 s")
    rate = {"replica_rate": "1 req/s"}
    with pytest.raises(ValueError, match="season: 600 s is no whole number of season_bin: 900 s"):
        scaler("predictive", **rate, season="10 min")
    with pytest.raises(ValueError, match="season_bin: 900 s is less than interval: 1800 s"):
        scaler("predictive", **rate, interval="30 min")
    with pytest.raises(ValueError, match=r"down_below: 3 is not less than up_over: 0\.9"):
        scaler("planner", down_below=3)


# ---- the forecast ----------------------------------------------------------------------------------------------


def forecast(**settings: Any) -> tuple[Predictive, Forecast]:
    made = Predictive.model_validate(
        {"max_replicas": 100, "replica_rate": "1 req/s", "interval": "15 s", **settings}
    )
    return made, Forecast(made)


@given(st.floats(0.1, 50))
def test_a_steady_rate_is_forecast_as_it_is(rate: float) -> None:
    _, ours = forecast()
    for step in range(1, 400):
        ours.saw(15.0 * step, rate)
    assert ours.ahead(6000.0, 300.0) == pytest.approx(rate)


def test_an_undamped_trend_finds_a_ramp() -> None:
    _, ours = forecast(damping=1.0)
    for step in range(1, 2000):
        ours.saw(15.0 * step, 5.0 + 0.01 * step)
    assert ours.ahead(15.0 * 1999, 300.0) == pytest.approx(5.0 + 0.01 * (1999 + 20), rel=1e-3)


def test_a_damped_trend_reaches_as_far_as_its_sum() -> None:
    settings, ours = forecast(damping=0.9)
    ours.level, ours.trend = 10.0, 1.0
    for steps in (1, 2, 7):
        reach = sum(0.9**k for k in range(1, steps + 1))
        assert ours.ahead(0.0, steps * settings.interval_s) == pytest.approx(10.0 + reach)
    assert ours.ahead(0.0, 1e9) == pytest.approx(10.0 + 9.0)
    ours.trend = -100.0
    assert ours.ahead(0.0, 100.0) == 0.0


def test_the_second_day_knows_the_shape_of_the_first() -> None:
    """With a day seen, the steepest hour of the next is foreseen; the day's mean may change as it likes."""
    _, ours = forecast()
    hour = 3600.0

    def rate(at: float) -> float:
        return (10.0 if at < 24 * hour else 16.0) * (1 - 0.8 * cos(2 * pi * at / (24 * hour)))

    errors: dict[bool, list[float]] = {False: [], True: []}
    for step in range(1, round(48 * hour / 15)):
        at = 15.0 * step
        ours.saw(at, rate(at - 7.5))
        if at % (24 * hour) > 4 * hour:
            ahead = 900.0
            errors[at > 24 * hour].append(abs(ours.ahead(at, ahead) / rate(at + ahead) - 1))
    first, second = (float(np.mean(errors[day])) for day in (False, True))
    assert second < 0.5 * first
    assert second < 0.03


def test_the_backlog_is_caught_up_with() -> None:
    want = scaler("predictive", replica_rate="1 req/s", headroom=0, catch_up="100 s").start()
    for step in range(1, 100):
        found = want(CALM._replace(now_s=15.0 * step, arrived_requests=30, waiting_requests=250))
    assert found == 5  # 2 a second that arrive, 2.5 of those that wait


@pytest.mark.parametrize("kind", kinds("autoscaler"))
def test_it_starts_afresh_for_every_run(kind: str) -> None:
    example = kinds("autoscaler")[kind].examples[0]
    made = OneOf("autoscaler").validate({"kind": kind, **example})
    assert isinstance(made, Autoscaler)

    def ask() -> list[int]:
        want = made.start()
        rng = np.random.default_rng(3)
        return [
            want(Seen(15.0 * step, 3, 3, int(rng.integers(200)), 1000, int(rng.integers(9)), float(rng.random()),
                      int(rng.integers(40)), 60.0))
            for step in range(1, 60)
        ]  # fmt: skip

    assert ask() == ask()
