"""Laws of the shared network, on random networks: fairness, conservation, order, and agreement with other ways."""

from __future__ import annotations

from math import inf

import fluid
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simpy import Environment

from clustersim.network.channel import Route
from clustersim.network.flows import Flows

SEEDS = st.integers(0, 2**32 - 1)


def bottleneck_property(flows: Flows, running: list) -> None:
    """Every flow is at its cap, or has a full channel on which no stream is faster: none can gain but from a slower."""
    for channel in flows.channels:
        load = sum(streams * flow.level for flow, streams in channel.flows.items())
        assert load <= channel.capacity_bytes_per_s * (1 + 1e-9)
        assert load == pytest.approx(channel.load_bytes_per_s, rel=1e-9, abs=1e-12)
    for flow in running:
        full = [
            channel
            for channel, _ in flow.hops
            if channel.load_bytes_per_s >= channel.capacity_bytes_per_s * (1 - 1e-9)
            and all(other.level <= flow.level * (1 + 1e-9) + 1e-12 for other in channel.flows)
        ]
        assert full or flow.level >= flow.cap_level * (1 - 1e-9), flow


@settings(max_examples=80)
@given(SEEDS)
def test_rates_are_max_min_fair_after_every_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    env = Environment()
    flows = Flows(env)
    channels = [flows.channel(str(i), float(rng.uniform(0.5, 9))) for i in range(rng.integers(2, 12))]
    running: list = []

    def churn():
        for _ in range(25):
            for _ in range(int(rng.integers(1, 4))):
                what = rng.random()
                if what < 0.5 or not running:
                    passed = rng.choice(len(channels), int(rng.integers(1, 3)), replace=False)
                    streams = float(rng.integers(1, 4))
                    route = Route(
                        tuple((channels[i], float(rng.integers(1, streams + 1))) for i in passed), streams
                    )
                    cap = float(rng.uniform(0.1, 3)) if rng.random() < 0.2 else inf
                    running.append(flows.start(route, 1e9, print, cap_bytes_per_s=cap))
                elif what < 0.8:
                    flows.cancel(running.pop(int(rng.integers(len(running)))))
                elif what < 0.9:
                    flows.set_cap(
                        running[int(rng.integers(len(running)))], float(rng.choice([0.2, 1.0, inf]))
                    )
                else:
                    channel = channels[int(rng.integers(len(channels)))]
                    flows.set_capacity(channel, float(rng.choice([0.0, 1.0, 7.0])))
            yield env.timeout(1.0)
            bottleneck_property(flows, running)
            hops = [{channels.index(channel): streams for channel, streams in flow.hops} for flow in running]
            capacities = [channel.capacity_bytes_per_s for channel in channels]
            expected = fluid.levels(hops, [flow.cap_level for flow in running], capacities)
            np.testing.assert_allclose([flow.level for flow in running], expected, rtol=1e-9, atol=1e-12)

    env.process(churn())
    env.run(until=100.0)
    flows.check()


@settings(max_examples=300)
@given(SEEDS)
def test_bytes_are_conserved(seed: int) -> None:
    case = fluid.draw(np.random.default_rng(seed))
    ends, flows, made = fluid.real(case)
    now = flows.env.now
    for end, flow, transfer in zip(ends, made, case.transfers, strict=True):
        assert flow is not None
        sent = flow.sent_bytes(now)
        assert (flow.state == "done") == (end < inf)
        assert sent == transfer.size if end < inf else sent < transfer.size * (1 + 1e-12)
    for index, channel in enumerate(flows.channels):
        passed = sum(
            flow.sent_bytes(now) * transfer.hops.get(index, 0.0) / transfer.streams
            for flow, transfer in zip(made, case.transfers, strict=True)
        )
        assert channel.carried_bytes(now) == pytest.approx(passed, rel=1e-9, abs=1e-12)


@settings(max_examples=40)
@given(SEEDS)
def test_small_steps_of_a_fluid_come_to_the_same(seed: int) -> None:
    case = fluid.draw(np.random.default_rng(seed), tidy=True)
    ends, _, _ = fluid.real(case)
    step = 1 / 128
    horizon = min(30.0, max((end for end in ends if end < inf), default=0.0) + 1.0)
    stepped = fluid.small_steps(case, step, horizon)
    # A rate is kept to the end of the step in which a flow ends: each end costs the others up to a step, and where a
    # narrow channel waits for a wide one's leftovers, as many times more.
    for mine, other in zip(ends, stepped, strict=True):
        if mine < horizon:
            assert other == pytest.approx(mine, abs=step * (2 + 2 * len(ends)))
        else:
            assert other == inf


@settings(max_examples=200)
@given(SEEDS)
@example(0)
def test_the_order_of_starts_at_one_time_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = fluid.draw(rng, tidy=True)
    ends, _, _ = fluid.real(case)
    other, _, _ = fluid.real(case, rng.permutation(len(case.transfers)).tolist())
    np.testing.assert_allclose(other, ends, rtol=1e-12)


@settings(max_examples=100)
@given(SEEDS)
def test_one_channel_conserves_work(seed: int) -> None:
    # However a channel is shared, it ends a backlog when a queue would: the bytes left follow from arrivals alone.
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 30))
    arrivals, sizes = np.cumsum(rng.exponential(1.0, count)), rng.exponential(0.8, count)
    transfers = [
        fluid.Transfer(float(at), float(size), {0: 1.0}) for at, size in zip(arrivals, sizes, strict=True)
    ]
    ends, flows, _ = fluid.real(fluid.Case([1.0], transfers))
    free = 0.0
    for at, size in zip(arrivals, sizes, strict=True):
        free = max(free, at) + size
    assert max(ends) == pytest.approx(free, rel=1e-9)
    assert flows.channels[0].carried_bytes(flows.env.now) == pytest.approx(sizes.sum(), rel=1e-12)
    assert all(end >= at + size - 1e-9 for end, at, size in zip(ends, arrivals, sizes, strict=True))


@settings(max_examples=100)
@given(SEEDS)
def test_more_of_everything_in_proportion_is_faster_in_proportion(seed: int) -> None:
    case = fluid.draw(np.random.default_rng(seed))
    transfers = [fluid.Transfer(0.0, each.size, each.hops, each.streams) for each in case.transfers]
    slow, _, _ = fluid.real(fluid.Case(case.capacities, transfers))
    fast, _, _ = fluid.real(fluid.Case([2 * capacity for capacity in case.capacities], transfers))
    np.testing.assert_allclose(np.array(fast) * 2, slow, rtol=1e-12)


@settings(max_examples=100)
@given(SEEDS)
def test_latency_is_added_once(seed: int) -> None:
    case = fluid.draw(np.random.default_rng(seed))
    transfers = [fluid.Transfer(each.at, each.size, each.hops, each.streams) for each in case.transfers]
    near, _, _ = fluid.real(fluid.Case(case.capacities, transfers))
    far, _, _ = fluid.real(fluid.Case(case.capacities, transfers, latency=0.125))
    np.testing.assert_allclose(np.array(far) - 0.125, near, rtol=1e-12)


def test_a_change_far_away_touches_nothing_here() -> None:
    env = Environment()
    flows = Flows(env)
    here, there = flows.channel("here", 3.0), flows.channel("there", 5.0)
    flow = flows.start([here], 1e3, print)
    env.run(until=1.0)
    updated = flow.updated_s
    for _ in range(3):
        flows.start([there], 1e3, print)
    env.run(until=2.0)
    assert (flow.updated_s, here.updated_s) == (updated, 0.0)
    assert there.load_bytes_per_s == 5.0


def test_same_run_twice_is_the_same_bit_for_bit() -> None:
    for seed in range(50):
        case = fluid.draw(np.random.default_rng(seed))
        assert fluid.real(case)[0] == fluid.real(case)[0]
