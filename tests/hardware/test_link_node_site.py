"""Links, nodes and sites: what is derived from them, and what they refuse."""

import pytest
from pydantic import ValidationError

from clustersim import library
from clustersim.hardware.link import Link, load_link
from clustersim.hardware.node import Node, load_node
from clustersim.hardware.site import Site, load_site
from clustersim.units import KWH_J


def test_one_pair_of_a_mesh_gets_one_link() -> None:
    assert load_link("xgmi-mi300x").pair_bytes_per_s == pytest.approx(64e9)
    assert load_link("nvlink4").pair_bytes_per_s == pytest.approx(450e9)


@pytest.mark.parametrize("name", library.names("links"))
def test_meshes_and_tori_say_what_a_pair_gets(name: str) -> None:
    link = load_link(name)
    if link.topology == "torus":
        assert link.peer_bandwidth_bytes_per_s is not None
    if link.in_network_reduction:
        assert link.topology == "switch"


def test_bits_and_bytes() -> None:
    assert load_link("ib-ndr").bandwidth_bytes_per_s.value == pytest.approx(50e9)


def test_an_inline_link_may_leave_its_launch_out() -> None:
    link = Link.model_validate(
        {"name": "mine", "kind": "pcie", "topology": "switch", "bandwidth": "10 GB/s", "latency": "1 us"}
    )
    assert link.launch_s.value == 0
    assert link.bandwidth_bytes_per_s.source == "given by the user"


def test_a_pair_gets_no_more_than_the_device() -> None:
    given = {"name": "mine", "kind": "xgmi", "topology": "mesh", "bandwidth": "10 GB/s", "latency": "1 us"}
    with pytest.raises(ValidationError, match="peer_bandwidth must not be above"):
        Link.model_validate(given | {"peer_bandwidth": "11 GB/s"})


def test_dgx_h100_draws_what_it_is_rated_for() -> None:
    assert load_node("dgx-h100").max_w == pytest.approx(10_200)
    assert load_node("dgx-a100").max_w == pytest.approx(6_500)
    assert load_node("gb200-nvl72").max_w == pytest.approx(120_000)


@pytest.mark.parametrize(
    ("name", "gbit_per_s"),
    [("dgx-h100", 400), ("p4d-a100", 50), ("p5-h100", 400), ("p5en-h200", 400), ("trainium2-16", 200),
     ("tpu-v5e-8", 25), ("gaudi3-8", 600), ("hgx-b300", 800)],
)  # fmt: skip
def test_network_share_of_one_accelerator(name: str, gbit_per_s: float) -> None:
    assert load_node(name).nic_bytes_per_s == pytest.approx(gbit_per_s * 1e9 / 8)


@pytest.mark.parametrize("name", library.names("nodes"))
def test_nodes_are_consistent(name: str) -> None:
    node = load_node(name)
    assert 0 < node.idle_w < node.max_w
    assert node.count == 1 or node.scale_up is not None


@pytest.mark.parametrize(
    ("change", "why"),
    [({"count": 0}, "greater than or equal to 1"), ({"host_idle": "9 kW"}, "host_idle must not be above"),
     ({"nics_per_accelerator": 0}, "greater than 0")],
)  # fmt: skip
def test_wrong_nodes(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Node.model_validate(load_node("dgx-h100").model_dump(mode="json") | change)


def test_iowa() -> None:
    site = load_site("us-iowa")
    assert site.electricity_usd_per_j.value * KWH_J == pytest.approx(0.0604)
    assert site.carbon_g_per_j.value * KWH_J == pytest.approx(475.5)


@pytest.mark.parametrize("name", library.names("sites"))
def test_sites_are_plausible(name: str) -> None:
    site = load_site(name)
    assert 0.02 < site.electricity_usd_per_j.value * KWH_J < 0.4
    assert 1.0 < site.pue.value < 2.0
    assert 5 < site.carbon_g_per_j.value * KWH_J < 1000


def test_a_pue_below_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Site.model_validate(load_site("us-iowa").model_dump(mode="json") | {"pue": 0.9})
