"""Simple transfers in closed form, and what happens to flows that are cancelled, held or meet a failure."""

from __future__ import annotations

from math import inf

import pytest
from simpy import Environment

from clustersim.network.channel import Route
from clustersim.network.flow import Release, layer_wise
from clustersim.network.flows import Flows


@pytest.fixture
def flows() -> Flows:
    return Flows(Environment())


class Ends(list):
    """Notes when it is called."""

    def __call__(self, now: float) -> None:
        self.append(now)


def at(flows: Flows, time: float, act) -> None:
    def wait():
        yield flows.env.timeout(time)
        act()

    flows.env.process(wait())


def test_alone_it_takes_size_over_the_narrowest_and_the_latency_once(flows) -> None:
    path = [flows.channel("out", 10.0, 0.5), flows.channel("spine", 4.0), flows.channel("in", 8.0, 0.25)]
    done = Ends()
    flow = flows.start(path, 40.0, done)
    flows.env.run()
    assert done == [10.75]
    assert flow.state == "done"
    assert [channel.carried_bytes(flows.env.now) for channel in path] == [40.0] * 3
    assert [channel.load_bytes_per_s for channel in path] == [0.0] * 3


def test_bandwidth_is_free_while_the_last_byte_is_under_way(flows) -> None:
    channel, first, second = flows.channel("far", 1.0, 100.0), Ends(), Ends()
    flows.start([channel], 1.0, first)
    at(flows, 1.0, lambda: flows.start([channel], 1.0, second))
    flows.env.run()
    assert (first, second) == ([101.0], [102.0])


def test_processor_sharing_of_one_channel(flows) -> None:
    # 10, 20 and 30 bytes from the start: the shares are 1/3, 1/2, 1.
    channel, done = flows.channel("one", 1.0), Ends()
    for size in (30.0, 10.0, 20.0):
        flows.start([channel], size, done)
    flows.env.run()
    assert done == pytest.approx([30.0, 50.0, 60.0])


def test_one_who_comes_later_takes_half(flows) -> None:
    channel, first, second = flows.channel("one", 2.0), Ends(), Ends()
    flow = flows.start([channel], 10.0, first)
    at(flows, 3.0, lambda: flows.start([channel], 2.0, second))
    at(flows, 4.0, lambda: (sent.append(flow.sent_bytes(4.0)), rates.append(flow.rate_bytes_per_s)))
    sent, rates = [], []
    flows.env.run()
    assert (first, second) == ([6.0], [5.0])
    assert (sent, rates) == ([7.0], [1.0])


def test_the_textbook_line_of_channels(flows) -> None:
    # A long flow shares each of three channels with a short one; the narrowest decides for the long.
    line = [flows.channel(str(width), width) for width in (2.0, 10.0, 6.0)]
    long = flows.start(line, 100.0, Ends())
    short = [flows.start([channel], 100.0, Ends()) for channel in line]
    flows.env.run(until=1.0)
    assert long.rate_bytes_per_s == 1.0
    assert [flow.rate_bytes_per_s for flow in short] == [1.0, 9.0, 5.0]


def test_a_cap_leaves_the_rest_to_others(flows) -> None:
    channel = flows.channel("one", 10.0)
    capped, other = flows.start([channel], 100.0, Ends(), cap_bytes_per_s=2.0), Ends()
    flow = flows.start([channel], 100.0, other)
    at(flows, 5.0, lambda: flows.set_cap(capped, 8.0))
    at(flows, 6.0, lambda: rates.extend([capped.rate_bytes_per_s, flow.rate_bytes_per_s]))
    rates = []
    flows.env.run()
    assert rates == [5.0, 5.0]
    assert other == pytest.approx([5.0 + 60.0 / 5.0])


def test_streams_share_and_not_flows(flows) -> None:
    node, other = flows.channel("node", 9.0), flows.channel("other", 9.0)
    two_nodes = flows.start(Route(((node, 2.0), (other, 2.0)), 4.0), 1e3, Ends())
    one = flows.start([node], 1e3, Ends())
    flows.env.run(until=1.0)
    assert two_nodes.rate_bytes_per_s == 12.0  # 3 a stream, as on its narrowest node
    assert one.rate_bytes_per_s == 3.0
    assert other.load_bytes_per_s == 6.0


def test_cancelled_flows_free_their_share_and_tell_nobody(flows) -> None:
    channel, done, cancelled = flows.channel("one", 2.0), Ends(), Ends()
    flow = flows.start([channel], 100.0, cancelled)
    held = flows.start([channel], 1.0, cancelled, release=Release(7.0))
    flows.start([channel], 10.0, done)
    at(flows, 4.0, lambda: (flows.cancel(flow), flows.cancel(held), flows.cancel(flow)))
    flows.env.run()
    assert (done, cancelled) == ([7.0], [])
    assert (flow.state, flow.sent_bytes(9.0), held.sent_bytes(9.0)) == ("cancelled", 4.0, 0.0)
    assert channel.carried_bytes(9.0) == 14.0


def test_cancelled_while_its_last_byte_is_under_way(flows) -> None:
    channel, done = flows.channel("far", 1.0, 5.0), Ends()
    flow = flows.start([channel], 1.0, done)
    at(flows, 3.0, lambda: flows.cancel(flow))
    flows.env.run()
    assert done == []
    assert channel.carried_bytes(9.0) == 1.0


def test_who_ends_may_cancel_who_ends_at_the_same_time(flows) -> None:
    channel, done = flows.channel("one", 2.0), Ends()
    flows.start([channel], 5.0, lambda now: flows.cancel(other))
    other = flows.start([channel], 5.0, done)
    flows.env.run()
    assert done == []


def test_an_end_may_start_the_next(flows) -> None:
    channel, done = flows.channel("one", 1.0), Ends()

    def again(now: float) -> None:
        done(now)
        if len(done) < 5:
            flows.start([channel], 1.0, again)

    flows.start([channel], 1.0, again)
    flows.env.run()
    assert done == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_failed_channel_holds_or_ends_its_flows(flows) -> None:
    channel, done, gone, failed = flows.channel("one", 2.0), Ends(), Ends(), Ends()
    flows.start([channel], 10.0, done)
    flows.start([channel], 10.0, gone, failed=failed)
    at(flows, 2.0, lambda: flows.set_capacity(channel, 0.0))
    at(flows, 3.0, lambda: flows.start([channel], 10.0, gone, failed=failed))
    at(flows, 3.0, lambda: flows.start([channel], 10.0, gone, failed=failed, release=Release(5.0)))
    at(flows, 9.0, lambda: flows.set_capacity(channel, 4.0))
    flows.env.run()
    assert (done, gone, failed) == ([11.0], [], [2.0, 3.0, 5.0])
    assert channel.carried_bytes(11.0) == 12.0


def test_more_or_less_capacity_takes_effect_at_once(flows) -> None:
    channel, done = flows.channel("one", 1.0), Ends()
    flows.start([channel], 10.0, done)
    at(flows, 2.0, lambda: flows.set_capacity(channel, 3.0))
    at(flows, 4.0, lambda: flows.set_capacity(channel, 0.5))
    flows.env.run()
    assert done == [8.0]


def test_nothing_to_send_and_nothing_to_pass(flows) -> None:
    channel, done = flows.channel("one", 1.0, 0.5), Ends()
    flows.start([channel], 1.0, Ends())
    flows.start([channel], 0.0, done)
    flows.start([], 1e12, done)
    flows.start([], 10.0, done, cap_bytes_per_s=4.0)
    flows.env.run()
    assert done == [0.0, 0.5, 2.5]


def test_an_infinite_channel_carries_what_comes(flows) -> None:
    wide, narrow, done = flows.channel("wide", inf), flows.channel("narrow", 2.0), Ends()
    flows.start([wide], 7.0, done)
    flows.start([wide, narrow], 4.0, done)
    flows.env.run()
    assert done == [0.0, 2.0]
    assert wide.carried_bytes(2.0) == 11.0
    flows.check()


SIZE, LAYERS, DURATION = 80.0, 8, 4.0


@pytest.mark.parametrize("bandwidth", [20.0, 21.0, 40.0, 1e6, 1e30, inf])
def test_a_fast_network_ends_one_layer_after_the_computation(flows, bandwidth: float) -> None:
    done, start = Ends(), 3.0
    channel = flows.channel("fast", bandwidth)
    at(flows, start, lambda: flows.start([channel], SIZE, done,
                                         release=layer_wise(SIZE, LAYERS, start, DURATION)))  # fmt: skip
    flows.env.run()
    assert done == pytest.approx([start + DURATION + SIZE / LAYERS / bandwidth], rel=1e-12)


@pytest.mark.parametrize("bandwidth", [20.0, 19.0, 3.0])
def test_a_slow_network_is_never_idle_from_the_first_layer_on(flows, bandwidth: float) -> None:
    done = Ends()
    release = layer_wise(SIZE, LAYERS, 0.0, DURATION)
    flows.start([flows.channel("slow", bandwidth)], SIZE, done, release=release)
    flows.env.run()
    assert done == pytest.approx([DURATION / LAYERS + SIZE / bandwidth], rel=1e-12)


def test_no_byte_leaves_before_it_is_made(flows) -> None:
    channel = flows.channel("one", 1e3)
    flow = flows.start([channel], SIZE, Ends(), release=layer_wise(SIZE, LAYERS, 0.0, DURATION))
    seen = []
    for tick in range(1, 64):
        at(
            flows,
            tick / 16,
            lambda time=tick / 16: seen.append((flow.sent_bytes(time), SIZE * time / DURATION)),
        )
    flows.env.run()
    assert len(seen) == 63
    assert all(sent <= made + 1e-9 for sent, made in seen)


def test_one_layer_or_no_time_is_no_overlap() -> None:
    assert layer_wise(10.0, 1, 2.0, 3.0).not_before_s == 5.0
    assert layer_wise(10.0, 4, 2.0, 0.0) == Release(2.0, inf, 2.0)
    with pytest.raises(ValueError, match="0 layers"):
        layer_wise(10.0, 0, 2.0, 3.0)


@pytest.mark.parametrize("size", [-1.0, inf, float("nan")])
def test_sizes_that_are_none(flows, size: float) -> None:
    with pytest.raises(ValueError, match="a flow of"):
        flows.start([], size, Ends())


def test_quantities_that_are_none(flows) -> None:
    channel = flows.channel("one", 1.0)
    for act in (lambda: flows.channel("bad", -1.0), lambda: flows.set_capacity(channel, float("nan")),
                lambda: flows.start([channel], 1.0, Ends(), cap_bytes_per_s=-2.0)):  # fmt: skip
        with pytest.raises(ValueError, match="0 or more"):
            act()
    with pytest.raises(ValueError, match="twice"):
        flows.start([channel, channel], 1.0, Ends())


def test_small_transfers_late_in_a_long_run_keep_their_bytes(flows) -> None:
    # At 1e6 s a float counts in steps of 1.2e-10 s; 5 kB at 50 GB/s take 1e-7 s.
    channel, done = flows.channel("nic", 50e9), Ends()

    def burst():
        yield flows.env.timeout(1e6)
        for _ in range(1000):
            flows.start([channel], 5e3, done)
            yield flows.env.timeout(2e-7)

    flows.env.process(burst())
    flows.env.run()
    assert len(done) == 1000
    assert channel.carried_bytes(flows.env.now) == pytest.approx(5e6, rel=1e-9)


def test_the_check_notices_bytes_that_do_not_add_up(flows) -> None:
    channel = flows.channel("one", 2.0)
    flows.start([channel], 100.0, Ends())
    flows.env.run(until=5.0)
    flows.check()
    channel.passed_bytes += 5.0
    with pytest.raises(RuntimeError, match="10 bytes were sent, 15 carried"):
        flows.check()
