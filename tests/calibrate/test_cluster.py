"""The cluster's plan, its results and its driver, without Ray: rounds, groups, stragglers, deaths, resuming."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from calibrate.case import Case, Samples
from calibrate.cluster.collectives import collective_tasks, groups_of
from calibrate.cluster.driver import LEVELS, Driver
from calibrate.cluster.node_sweep import spreads
from calibrate.cluster.nodes import Node, in_ray_job, interface_of, nodes_of
from calibrate.cluster.pairs import pair_tasks, round_robin, rounds_of
from calibrate.cluster.ranks import RankError
from calibrate.cluster.task import Pace, Task
from calibrate.store import Store
from calibrate.timing import Rule
from clustersim.scenario.schema import Cluster

RULE = Rule(0.1, 0.0)
NODES = [Node(name, f"id-{name}", f"10.0.0.{k}") for k, name in enumerate("abc")]


@given(st.integers(0, 40))
def test_every_two_names_meet_once_in_rounds_of_disjoint_pairs(count: int) -> None:
    names = [f"n{k}" for k in range(count)]
    rounds = round_robin(names)
    assert {pair for pairs in rounds for pair in pairs} == set(combinations(names, 2))
    assert sum(map(len, rounds)) == count * (count - 1) // 2
    for pairs in rounds:
        busy = [name for pair in pairs for name in pair]
        assert len(busy) == len(set(busy))
    if count:
        assert len(rounds) == count - 1 + count % 2


def test_a_round_is_measured_pair_by_pair_then_all_at_once() -> None:
    nodes = [*NODES, Node("d", "id-d", "10.0.0.9")]
    tasks = pair_tasks(nodes, "full", RULE)
    together = [task for task in tasks if len(task.parts) > 1]
    assert {len(task.parts) for task in together} == {2}
    assert len({key for task in tasks for key in task.keys}) == sum(len(task.keys) for task in tasks)
    alone = {task.parts[0].case.path for task in tasks if len(task.parts) == 1}
    assert len(alone) == 6


def test_devices_of_one_node_are_paired_inside_it_on_all_nodes_at_once() -> None:
    nodes = [Node("a", "1", "x", 2), Node("b", "2", "y", 2)]
    assert rounds_of(nodes) == [[("a:0", "b:0")], [("a:0", "a:1"), ("b:0", "b:1")]]
    labels = [(label.split("@")[0], ranks) for label, ranks in groups_of(nodes)]
    assert labels == [("1x2", ("a:0", "a:1")), ("2x1", ("a:0", "b:0")), ("2x2", ("a:0", "a:1", "b:0", "b:1"))]
    forced = [task for task in collective_tasks(nodes, "quick", RULE, nccl=True) if task.env]
    assert forced
    assert {task.parts[0].case.shape["ring"] for task in forced} == {1}
    assert forced[0].env == {"NCCL_ALGO": "Ring"}


def test_nodes_are_ordered_by_name_and_told_apart() -> None:
    def row(name: str, node_id: str, alive: bool = True, **resources: float) -> dict[str, Any]:
        return {
            "NodeName": name,
            "NodeID": node_id,
            "NodeManagerAddress": "h",
            "Alive": alive,
            "Resources": resources,
        }

    table = [
        row("n-10", "z", CPU=1),
        row("n-2", "y", CPU=1),
        row("n-3", "x", alive=False, CPU=1),
        row("idle", "w"),
    ]
    assert [node.name for node in nodes_of(table)] == ["n-2", "n-10"]
    assert [node.name for node in nodes_of([row("n", "b", CPU=1), row("n", "a", CPU=1)])] == ["n#0", "n#1"]
    gpus = nodes_of([row("head", "1", CPU=8), row("worker", "2", CPU=8, GPU=2)])
    assert [node.rank_names for node in gpus] == [["worker:0", "worker:1"]]


def test_the_interface_of_an_address_is_found() -> None:
    assert interface_of("127.0.0.1") == "lo"
    with pytest.raises(OSError, match="GLOO_SOCKET_IFNAME"):
        interface_of("192.0.2.1")


def test_a_job_is_known_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert not in_ray_job()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert in_ray_job()


def test_the_driver_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, calibrate.cluster.run, calibrate.linkfit\nassert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_pace_warms_up_samples_and_stops() -> None:
    clock = iter(np.arange(0, 1000, 0.01))
    pace = Pace(Rule(max_s=1e9, warm_up_s=0.0, most_samples=50), now=lambda: float(next(clock)))
    calls = 0
    while pace.goes_on():
        calls += 1
        pace.took(1.0)
    assert (calls, len(pace.seconds)) == (16, 15), (
        "one warm-up; then the median is known with the fewest samples"
    )


def test_samples_that_disagree_are_followed_by_more() -> None:
    def taken(seconds: Sequence[float], rule: Rule) -> int:
        clock = iter(np.arange(0.0, 1000.0, 0.2))
        pace = Pace(rule, now=lambda: float(next(clock)))
        calls = 0
        while pace.goes_on():
            pace.took(seconds[calls % len(seconds)])
            calls += 1
        return len(pace.seconds)

    slow = Rule(max_s=0.5, warm_up_s=0.0, least_samples=5)
    assert taken([1.0, 1.001], slow) == 5
    assert taken([1.0, 1.2, 1.1], slow) == 15, "as many as an interval wants"
    assert taken([1.0, 1.2, 1.1], replace(slow, half_width_frac=0.0)) == 5, (
        "without a width nothing is asked for"
    )
    assert 5 < taken([1.0, 1.2, 1.1], replace(slow, max_s=0.05)) < 15, "nor without end"


def swept(rank: str, seconds: Sequence[float]) -> Samples:
    return Samples(Case("gemm", "gemm", "fp32", {"m": 64}, path=rank), tuple(seconds), "wall")


def test_a_straggler_is_slow_beyond_doubt() -> None:
    draw = np.random.default_rng(0)
    normal = [swept(f"n{k}", 1e-3 * (1 + 0.01 * draw.random(40))) for k in range(7)]
    (spread,) = spreads([*normal, swept("slow", 1.1e-3 * (1 + 0.01 * draw.random(40)))])
    assert spread.stragglers == ("slow",)
    assert len(spread.by_rank_s) == 8
    (noisy,) = spreads([*normal, swept("noisy", 1.1e-3 * (1 + 0.8 * (draw.random(40) - 0.5)))])
    assert noisy.stragglers == (), "its interval overlaps theirs"
    (alike,) = spreads([*normal, swept("near", 1.03e-3 * np.ones(40))])
    assert alike.stragglers == ()


class World:
    """A cluster in the mind: links of 100 MB/s and 1 ms, nodes that can die and operations that can hang."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.dies_at: dict[int, str] = {}
        self.hangs: set[str] = set()
        self.measured: list[Task] = []
        self.formed: list[list[str]] = []
        self.killed = 0

    def form(self, nodes: Sequence[Node], env: Mapping[str, str], groups: object, timeout_s: float) -> Any:
        if self.dead & {node.name for node in nodes}:
            raise RankError("died", tuple(self.dead), "no")
        self.formed.append([node.name for node in nodes])
        return FakeGroup(self, nodes, env)

    def probe(self, node: Node, env: object, timeout_s: float) -> str:
        return "Ray lost the node" if node.name in self.dead else ""


class FakeGroup:
    def __init__(self, world: World, nodes: Sequence[Node], env: Mapping[str, str]) -> None:
        self.world, self.env = world, dict(env)
        self.ranks = [name for node in nodes for name in node.rank_names]
        self.hello = {name: {"torch": "2.0"} for name in self.ranks}

    def ask(self, method: str, calls: Mapping[str, object], timeout_s: float) -> dict[str, Any]:
        return {name: [Case("gemm", "gemm", "fp32", {"m": 64}).as_dict()] for name in calls}

    def measure(self, task: Task, timeout_s: float) -> list[dict[str, Any]]:
        assert timeout_s >= 30
        if (dying := self.world.dies_at.pop(len(self.world.measured), None)) is not None:
            self.world.dead.add(dying)
        if self.world.dead & task.ranks:
            raise RankError("died", tuple(self.world.dead & task.ranks), "gone")
        if task.parts[0].case.op in self.world.hangs:
            raise RankError("hung", (), "no answer")
        self.world.measured.append(task)
        return [
            Samples(
                each.case,
                (1e-3 + each.case.shape.get("bytes", 0) / 1e8,) * 15,
                "wall",
                node=each.ranks[0],
                notes={},
            ).as_dict()
            for each in task.parts
        ]

    def kill(self) -> None:
        self.world.killed += 1


def drive(world: World, folder: Path, ops: Sequence[str] = ("p2p", "all_reduce", "barrier")) -> Driver:
    return Driver(
        NODES, "quick", Store(folder), ops, form=world.form, probe=world.probe, say=lambda text: None
    )


def test_a_whole_run_measures_all_links_once(tmp_path: Path) -> None:
    world = World()
    result = drive(world, tmp_path).run()
    assert world.formed == [["a", "b", "c"]]
    assert [session["ranks"]["a"]["torch"] for session in Store(tmp_path).sessions()] == ["2.0"]
    assert {(link.a, link.b, link.quality) for link in result.links} == {
        ("a", "b", "ok"),
        ("a", "c", "ok"),
        ("b", "c", "ok"),
    }
    for link in result.links:
        assert link.bandwidth_bytes_per_s is not None
        assert link.bandwidth_bytes_per_s.value == pytest.approx(1e8, rel=0.01)
    assert not result.gaps
    before = len(world.measured)
    assert drive(world, tmp_path).run().links == result.links
    assert len(world.measured) == before, "a second start repeats nothing"
    assert YAML(typ="safe").load(result.write())["links"][0]["quality"] == "ok"


def test_what_was_measured_goes_into_the_node_of_a_scenario(tmp_path: Path) -> None:
    result = drive(World(), tmp_path, ("p2p",)).run()
    result.write()
    measured = YAML(typ="safe").load(tmp_path / "node.yaml")
    cluster = Cluster.model_validate({"name": "c", "node": {"base": "hgx-h100", **measured}, "count": 3})
    path = cluster.network.path(cluster.node, 3)
    assert path.bandwidth_bytes_per_s == pytest.approx(1e8, rel=0.01)
    assert path.latency_s == pytest.approx(0.5e-3, rel=0.01), "there and back takes 1 ms"
    assert path.launch_s == 0.0
    assert path.evidence == "measured"
    assert "median of 3 links between nodes, 0 of them" in path.source
    world = World()
    world.dead = {"a", "b", "c"}
    lost = drive(world, tmp_path / "lost", ("p2p",)).run()
    lost.write()
    assert not (tmp_path / "lost" / "node.yaml").exists()


@pytest.mark.parametrize("moment", [0, 3, 20, 60])
def test_a_dead_node_is_named_and_the_rest_goes_on(tmp_path: Path, moment: int) -> None:
    world = World()
    world.dies_at = {moment: "b"}
    result = drive(world, tmp_path).run()
    assert list(result.quarantined) == ["b"]
    measured = {(link.a, link.b): link for link in result.links}
    assert measured["a", "c"].quality == "ok"
    if moment < 20:
        assert measured["b", "c"].missing == "b: Ray lost the node", (
            "a link measured in part has no bandwidth"
        )
    assert world.formed[-1] == ["a", "c"]
    assert {row["ranks"] for row in result.rows} >= {2}
    assert any("node b is out" in error["text"] for error in Store(tmp_path).errors())
    keys = [samples.case.key for samples in Store(tmp_path).all_samples()]
    world.dead.clear()
    healed = drive(world, tmp_path).run()
    again = [samples.case.key for samples in Store(tmp_path).all_samples()]
    assert len(set(again)) == len(again) > len(keys), "the next start measures the rest, and nothing twice"
    assert not healed.quarantined
    assert all(link.quality == "ok" for link in healed.links)


def test_a_case_that_hangs_twice_is_given_up_and_others_go_on(tmp_path: Path) -> None:
    world = World()
    world.hangs = {"barrier"}
    result = drive(world, tmp_path).run()
    assert [name for name in result.gaps if "barrier" in name]
    assert all("given up after 2 failures" in why for name, why in result.gaps.items())
    assert not result.quarantined
    errors = Store(tmp_path).errors()
    assert {error["what"] for error in errors} == {"hung"}
    assert len(errors) == 2 * len({error["key"] for error in errors})
    assert all(link.quality == "ok" for link in result.links)


def test_a_run_ends_when_every_node_is_gone(tmp_path: Path) -> None:
    world = World()
    world.dead = {"a", "b", "c"}
    result = drive(world, tmp_path).run()
    assert set(result.quarantined) == {"a", "b", "c"}
    assert [link.quality for link in result.links] == ["missing"] * 3


def test_messages_too_slow_for_the_plan_are_left_out_and_named(tmp_path: Path) -> None:
    driver = drive(World(), tmp_path, ("p2p",))
    driver.level = type(LEVELS["quick"])(RULE, RULE, most_call_s=0.1)
    result = driver.run()
    assert any("16777216 bytes" in name and "over the 0.1 s" in why for name, why in result.gaps.items())
    assert all(link.quality == "ok" for link in result.links)
