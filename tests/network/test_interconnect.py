"""What a fleet's places get between them: in closed form, against a published table, and when parts fail."""

from __future__ import annotations

from math import inf

import pytest
from simpy import Environment

from clustersim.errors import InputError
from clustersim.hardware.link import load_link
from clustersim.hardware.site import load_site
from clustersim.network.flows import Flows
from clustersim.network.interconnect import NIC_FRAC, SCALE_UP_FRAC, SETUP_S, Interconnect
from clustersim.network.place import Place, Share, meetings
from clustersim.network.wan import distance_m, fibre_latency_s
from clustersim.scenario.schema import Cluster

NIC = 50e9 * NIC_FRAC
"""An NDR port."""
LATENCY = SETUP_S + 6.6e-6 + 2.7e-6
HOP = 0.3e-6


def cluster(name: str = "pool", node: object = "hgx-h100", count: int = 8, **more: object) -> Cluster:
    return Cluster.model_validate({"name": name, "node": node, "count": count, **more})


def joined(*clusters: tuple[Cluster, str]) -> Interconnect:
    wired = [(each, load_site(site)) for each, site in clusters] or [(cluster(), load_site("us-iowa"))]
    return Interconnect(Flows(Environment()), wired, load_link("wan-400g"))


def whole(node: int, name: str = "pool", count: int = 8) -> Place:
    return Place(name, (Share(node, tuple(range(count))),))


def some(node: int, *accelerators: int, name: str = "pool") -> Place:
    return Place(name, (Share(node, accelerators),))


def seconds(inter: Interconnect, *routes, size: float = 1e9) -> list[float]:
    """Return when transfers that start together are done."""
    done: list[float] = [inf] * len(routes)
    for index, route in enumerate(routes):
        inter.flows.start(route, size, lambda now, index=index: done.__setitem__(index, now))
    inter.flows.env.run()
    inter.flows.check()
    return done


def test_a_whole_node_sends_with_all_its_ports() -> None:
    inter = joined()
    assert seconds(inter, inter.path(whole(0), whole(1))) == pytest.approx([1e9 / (8 * NIC) + LATENCY + HOP])
    assert [channel.name for channel in inter.flows.channels] == ["pool/0/nic/out", "pool/1/nic/in"]


def test_a_replica_of_two_accelerators_sends_with_two_ports() -> None:
    inter = joined()
    assert seconds(inter, inter.path(some(0, 2, 3), some(1, 0, 1))) == pytest.approx(
        [1e9 / (2 * NIC) + LATENCY + HOP]
    )


def test_the_narrower_side_decides() -> None:
    inter = joined()
    assert seconds(inter, inter.path(whole(0), some(1, 5))) == pytest.approx([1e9 / NIC + LATENCY + HOP])


def test_two_transfers_of_one_replica_share_its_ports_and_not_the_nodes() -> None:
    inter = joined()
    routes = [inter.path(some(0, 0, 1), whole(node)) for node in (1, 2)]
    other = inter.path(some(0, 4, 5), whole(3))
    assert seconds(inter, *routes, other) == pytest.approx(
        [1e9 / NIC + LATENCY + HOP] * 2 + [1e9 / (2 * NIC) + LATENCY + HOP]
    )


def test_many_senders_share_the_ports_of_one_receiver() -> None:
    inter = joined()
    assert seconds(inter, *(inter.path(whole(node), whole(7)) for node in range(4))) == pytest.approx(
        [4e9 / (8 * NIC) + LATENCY + HOP] * 4
    )


def test_within_a_node_scale_up_carries_it() -> None:
    inter = joined()
    done = seconds(inter, inter.path(some(0, 0, 1, 2, 3), some(0, 4, 5, 6, 7)))
    assert done == pytest.approx([1e9 / (4 * 450e9 * SCALE_UP_FRAC) + 7.2e-6])


def test_a_pair_in_a_mesh_has_one_link() -> None:
    inter = joined((cluster(node="mi300x-8"), "us-iowa"))
    link = load_link("xgmi-mi300x")
    done = seconds(inter, inter.path(some(0, 0), some(0, 1)))
    assert done[0] == pytest.approx(1e9 / (64e9 * SCALE_UP_FRAC), rel=1e-2)
    assert seconds(inter, inter.path(some(0, 0, 1, 2, 3), some(0, 4, 5, 6, 7)))[0] - done[0] == pytest.approx(
        1e9 / (4 * 4 * link.pair_bytes_per_s * SCALE_UP_FRAC), rel=1e-2
    )


def test_nothing_passes_from_a_replica_to_itself() -> None:
    inter = joined()
    assert seconds(inter, inter.path(whole(0), whole(0)), size=1e15) == [0.0]
    assert inter.flows.channels == []


def test_two_nodes_to_one_meet_by_rank() -> None:
    both = Place("pool", (Share(0, tuple(range(8))), Share(1, tuple(range(8)))))
    assert meetings(both, whole(2)) == [
        (both.shares[0], whole(2).shares[0], 0.5), (both.shares[1], whole(2).shares[0], 0.5),
    ]  # fmt: skip
    third = Place("pool", (Share(5, (0, 1)), Share(6, (0,))))
    assert [share for *_, share in meetings(third, both)] == pytest.approx([1 / 2, 1 / 6, 1 / 3])
    inter = joined()
    out = [inter.path(both, whole(2)), inter.path(whole(2), both)]
    assert seconds(inter, *out) == pytest.approx([1e9 / (8 * NIC) + LATENCY + HOP] * 2)
    assert inter.channel("pool/1/nic/out").carried_bytes(1.0) == pytest.approx(5e8)


def test_a_part_of_a_replica_has_the_ranks_of_its_turn() -> None:
    both = Place("pool", (Share(0, tuple(range(8))), Share(1, tuple(range(8)))))
    assert both.part(0, 1) == both
    assert both.part(5, 8) == some(1, 2, 3)
    assert both.part(1, 4).num_accelerators == 4
    for index, of in ((0, 3), (8, 8)):
        with pytest.raises(ValueError, match="accelerators"):
            both.part(index, of)


def test_an_oversubscribed_spine_is_shared_by_those_who_pass_it() -> None:
    network = {"kind": "rail_optimised", "nodes_per_rail": 4, "oversubscription": 4.0}
    inter = joined((cluster(network=network), "us-iowa"))
    near = [inter.path(whole(node), whole(node + 1)) for node in (0, 2)]
    far = [inter.path(whole(node), whole(node + 4)) for node in range(4)]
    spine = inter.channel("pool/spine")
    assert spine.capacity_bytes_per_s == pytest.approx(8 * 8 * NIC / 4)
    done = seconds(inter, *far)
    assert done == pytest.approx([4e9 / (8 * 8 * NIC / 4) + LATENCY + 3 * HOP] * 4)
    assert spine.carried_bytes(1.0) == pytest.approx(4e9)
    inter = joined((cluster(network=network), "us-iowa"))
    assert seconds(inter, *(inter.path(whole(node), whole(node + 1)) for node in (0, 2)))[0] < done[0]
    assert near[0].hops[0][0].name == "pool/0/nic/out"
    assert inter.channel("pool/spine") is None


@pytest.mark.parametrize(
    ("network", "count", "leaf"),
    [
        ({"kind": "fat_tree", "radix": 64}, 64, 64),
        ({"kind": "fat_tree", "radix": 64}, 65, 32),
        ({"kind": "fat_tree", "radix": 64, "oversubscription": 3.0}, 100, 48),
        ({"kind": "rail_optimised"}, 100, 32),
    ],
)
def test_who_needs_no_spine(network: dict, count: int, leaf: int) -> None:
    assert cluster(network=network, count=count).network.nodes_per_leaf(count) == leaf


def test_chips_that_share_a_port_may_each_use_the_whole_of_it() -> None:
    inter = joined((cluster(node="tpu-v5e-8"), "us-iowa"))  # 8 chips, 2 ports of 100 Gb/s
    port = 12.5e9 * NIC_FRAC
    inter.path(some(0, 0), some(1, 0))
    assert inter.channel("pool/0/nic/out").capacity_bytes_per_s == pytest.approx(2 * port)
    assert inter.channel("pool/0/nic/out/0").capacity_bytes_per_s == pytest.approx(port)


def test_two_sites_share_one_way_over_the_wan() -> None:
    inter = joined(
        (cluster("here"), "us-iowa"), (cluster("there"), "de-frankfurt"), (cluster("near"), "us-iowa")
    )
    ways = [inter.path(whole(node, "here"), whole(node, "there")) for node in (0, 1)]
    fibre = fibre_latency_s(load_site("us-iowa"), load_site("de-frankfurt"))
    assert 0.045 < fibre < 0.06  # 7,500 km; round trips of 100 to 120 ms are usual
    done = seconds(inter, *ways)
    assert done == pytest.approx([2e9 / (50e9 * 0.8) + fibre + 20e-6 + LATENCY + HOP] * 2, rel=1e-6)
    back, same_site = (
        inter.path(whole(0, "there"), whole(0, "here")),
        inter.path(whole(0, "here"), whole(0, "near")),
    )
    names = [channel.name for channel in inter.flows.channels if channel.name.startswith("wan")]
    assert names == ["wan/us-iowa/de-frankfurt", "wan/de-frankfurt/us-iowa"]
    assert back.latency_s > 0.045 > same_site.latency_s


def test_distances_are_those_of_an_atlas() -> None:
    oregon, virginia = load_site("us-oregon"), load_site("us-virginia")
    assert distance_m(oregon, virginia) == pytest.approx(3.7e6, rel=0.05)
    assert distance_m(virginia, oregon) == distance_m(oregon, virginia)
    # us-east <-> us-west: 60 to 70 ms there and back; routers come on top of the fibre.
    assert 0.045 < 2 * fibre_latency_s(oregon, virginia) < 0.07
    with pytest.raises(InputError, match='"us-average" has no latitude'):
        distance_m(oregon, load_site("us-average"))


def test_host_drives_and_remote_store() -> None:
    inter = joined()
    pcie = 63e9 * 0.8
    cases = [
        (inter.from_host(whole(0)), 8 * pcie),
        (inter.to_host(some(0, 1)), pcie),
        (inter.from_local_store(whole(1)), 52e9),
        (inter.to_local_store(whole(1)), 28e9),
        (inter.from_local_store(some(2, 7)), pcie),
        (inter.from_remote_store(whole(3)), 40e9),
        (inter.to_remote_store(whole(3)), 20e9),
    ]
    for route, bandwidth in cases:
        start = inter.flows.env.now
        took = seconds(inter, route, size=1e10)[0] - start
        assert took == pytest.approx(1e10 / bandwidth + route.latency_s, rel=1e-9)


def test_a_node_reads_weights_once_for_all_its_accelerators_and_two_nodes_read_at_once() -> None:
    inter = joined()
    both = Place("pool", (Share(0, tuple(range(8))), Share(1, tuple(range(8)))))
    assert seconds(inter, inter.from_local_store(both), size=104e9)[0] == pytest.approx(1.0, rel=1e-3)


def test_the_remote_store_may_have_less_than_its_nodes_ask() -> None:
    inter = joined((cluster(remote_store_total_bytes_per_s="50 GB/s"), "us-iowa"))
    done = seconds(inter, *(inter.from_remote_store(whole(node)) for node in range(5)), size=1e10)
    assert done == pytest.approx([1.0 + 1.01e-3] * 5, rel=1e-9)


def test_accelerators_that_share_memory_with_their_host_copy_nothing() -> None:
    inter = joined((cluster(node="mac-studio"), "us-iowa"))
    assert inter.from_host(some(0, 0)).hops == ()
    assert len(inter.from_local_store(some(0, 0)).hops) == 1


def test_parts_that_fail_and_are_repaired() -> None:
    inter = joined()
    env, done, failed = inter.flows.env, [], []
    route = inter.path(whole(0), whole(1))
    inter.flows.start(route, 8 * NIC, done.append)
    inter.flows.start(inter.path(whole(2), whole(3)), 8 * NIC, done.append, failed=failed.append)

    def fail():
        yield env.timeout(0.5)
        inter.set_frac("pool/1/nic", 0.0)
        inter.set_frac("pool/3", 0.0)
        inter.flows.start(inter.path(whole(3), whole(4)), 1.0, done.append, failed=failed.append)
        yield env.timeout(1.0)
        inter.set_frac("pool/1/nic", 0.5)
        inter.set_frac("pool/3", 1.0)

    env.process(fail())
    env.run()
    assert failed == [0.5, 0.5]
    assert done == pytest.approx([2.5 + LATENCY + HOP])
    assert inter.channel("pool/3/nic/out").capacity_bytes_per_s == 8 * NIC
    with pytest.raises(KeyError, match="no cluster"):
        inter.set_frac("pol/1", 0.0)
    with pytest.raises(ValueError, match="bandwidth of pool"):
        inter.set_frac("pool", 2.0)


def test_node_1_is_not_node_10() -> None:
    inter = joined((cluster(count=16), "us-iowa"))
    inter.path(whole(1), whole(10))
    inter.set_frac("pool/1", 0.0)
    assert inter.channel("pool/10/nic/in").capacity_bytes_per_s == 8 * NIC


#: kvcache-ai.github.io/Mooncake/performance/vllm-v1-support-benchmark.html: MB, ms; 8 ports of 200 GB/s in all.
MOONCAKE = [(20, 0.54), (38, 0.61), (74, 0.92), (146, 1.50), (290, 2.51), (578, 4.75), (1130, 8.84), (2250, 16.43),
            (4500, 31.65)]  # fmt: skip


def test_published_times_of_kv_transfers_between_two_nodes() -> None:
    inter = joined((cluster(node={"base": "hgx-h100", "nic": "roce-200g"}), "us-iowa"))
    errors = []
    for megabytes, milliseconds in MOONCAKE:
        start = inter.flows.env.now
        took = seconds(inter, inter.path(whole(0), whole(1)), size=megabytes * 1e6)[0] - start
        errors.append(took * 1e3 / milliseconds - 1)
    print([f"{error:+.1%}" for error in errors])
    assert max(map(abs, errors)) < 0.13
    assert sorted(map(abs, errors))[len(errors) // 2] < 0.07


def test_a_store_does_not_take_more_than_it_gives() -> None:
    with pytest.raises(ValueError, match="write_bandwidth must not be above"):
        cluster(local_store={"base": "nvme-gen4-8", "write_bandwidth": "60 GB/s"})
