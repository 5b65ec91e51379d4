"""A reference to a shelf is one by the type of its field: `nic` of a node is, `nic` of a network is a bandwidth."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusing import GOOD

from clustersim.errors import InputError
from clustersim.scenario.load import load


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("count: 2", "count: 2, network: {kind: rail_optimised, nic: 100 Gb/s}"))
    return path


def test_the_ports_of_a_network_have_a_bandwidth(mine: Path) -> None:
    network = load(mine).fleet[0].clusters[0].network
    assert network.nic_bytes_per_s == pytest.approx(12.5e9)


def test_so_they_have_from_the_command_line(mine: Path) -> None:
    for setting in (
        "fleet.0.clusters.0.network.nic=25 GB/s",
        "fleet.0.clusters.0.network={kind: fat_tree, nic: 25 GB/s}",
    ):
        network = load(mine, [setting]).fleet[0].clusters[0].network
        assert network.nic_bytes_per_s == pytest.approx(25e9)


def test_the_ports_of_a_node_are_a_link(mine: Path) -> None:
    node = load(mine, ["fleet.0.clusters.0.node.nic.latency=9 us"]).fleet[0].clusters[0].node
    assert node.nic.latency_s.value == pytest.approx(9e-6)
    with pytest.raises(InputError, match=r'no file "\./port.yaml"'):
        load(mine, ["fleet.0.clusters.0.node={base: hgx-h100, nic: ./port.yaml}"])
    with pytest.raises(InputError, match=r'no file "\./node.yaml"'):
        load(mine, ["fleet.0.clusters.0.node={base: ./node.yaml}"])
    with pytest.raises(InputError, match=r'no file "\./far.yaml"'):
        load(mine, ["wan=./far.yaml"])
