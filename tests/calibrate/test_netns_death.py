"""A node, a rank or the driver dies in mid-run: the rest is measured, what died is named, and a second start goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import Net, RayNodes, why_not
from ruamel.yaml import YAML

WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
LIMIT_S = 170.0
CALIBRATE = (sys.executable, "-m", "calibrate", "cluster", "--no-sweep", "--allow-contended")


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[RayNodes]:
    net = Net(3, 500)
    try:
        yield RayNodes(net, Path(tempfile.gettempdir(), net.names[0]))
    finally:
        net.close()
        shutil.rmtree(Path(tempfile.gettempdir(), net.names[0]), ignore_errors=True)


def keys(folder: Path) -> Counter[str]:
    """How often each case is in the store; a torn last line is no case."""
    found = Counter[str]()
    for text in (folder / "samples.jsonl").read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line["kind"] == "samples":
            found[line["key"]] += 1
    return found


def interrupted(
    ray_nodes: RayNodes, command: tuple[str, ...], when: Callable[[list[str]], bool], deed: Callable[[], Any]
) -> tuple[str, int, float]:
    """Run a command in the first namespace, do a deed once its words say `when`; words, exit status, seconds to the end."""
    began, words = time.monotonic(), list[str]()
    run = ray_nodes.begin(0, *command)
    assert run.stdout is not None
    reader = threading.Thread(target=lambda: words.extend(run.stdout or ()), daemon=True)
    reader.start()
    try:
        while not when(words):
            assert run.poll() is None, "".join(words)
            assert time.monotonic() - began < LIMIT_S, "".join(words)
            time.sleep(0.1)
        deed()
        at = time.monotonic()
        status = run.wait(LIMIT_S)
    finally:
        if run.poll() is None:
            run.kill()
        run.wait(10)
        reader.join(5)
        run.stdout.close()
    return "".join(words), status, time.monotonic() - at


def sent(words: list[str], path: str) -> int:
    return sum(path in line for line in words if line.startswith("p2p"))


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def errors_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "errors.jsonl").read_text().splitlines()]


def cluster_of(folder: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(folder / "cluster.yaml"))


def test_a_run_outlives_a_node_and_the_next_one_goes_on(ray_nodes: RayNodes, tmp_path: Path) -> None:
    command = (*CALIBRATE, "--plan", "quick", "--op", "p2p", "--op", "barrier", "--out", str(tmp_path))
    folder, of_b = tmp_path / "cluster-quick", ray_nodes.net.names[1]
    text, status, took_s = interrupted(
        ray_nodes, command, lambda words: sent(words, "b") >= 5, lambda: ray_nodes.net.kill(of_b)
    )
    print(f"\n{text}\nkilled the node b; the run ended {took_s:.1f} s later")
    assert status == 0
    found = cluster_of(folder)
    links = {(each["a"], each["b"]): each for each in found["links"]}
    assert list(found["quarantined"]) == ["b"]
    assert links["a", "c"]["bandwidth_bytes_per_s"]["v"] == pytest.approx(500e6 / 8 * 1448 / 1514, rel=0.05)
    assert links["b", "c"]["missing"] == "b: Ray lost the node"
    assert any("node b is out" in line["text"] for line in errors_of(folder))
    first = keys(folder)

    ray_nodes.start(1)
    done = ray_nodes.inside(0, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stderr, done.stdout)
    second = keys(folder)
    repeated = [key for key, count in second.items() if count > 1]
    print(f"first start {len(first)} cases, second {len(second) - len(first)} more, repeated {len(repeated)}")
    assert not repeated
    found = cluster_of(folder)
    assert not found["quarantined"]
    assert [each["missing"] for each in found["links"]] == ["", "", ""]


def test_a_run_outlives_a_rank(ray_nodes: RayNodes, tmp_path: Path) -> None:
    """The node is well: it is probed, kept, and everything is measured."""
    command = (*CALIBRATE, "--plan", "quick", "--op", "p2p", "--op", "barrier", "--out", str(tmp_path))
    folder, of_c = tmp_path / "cluster-quick", ray_nodes.net.names[2]
    text, status, took_s = interrupted(
        ray_nodes, command, lambda words: sent(words, "c") >= 3,
        lambda: kill(ray_nodes.net.running(of_c, "ray::Rank")),
    )  # fmt: skip
    print(f"\n{text}\nkilled the rank of c; the run ended {took_s:.1f} s later")
    assert status == 0
    found = cluster_of(folder)
    assert not found["quarantined"]
    assert not found["missing"]
    assert [each["missing"] for each in found["links"]] == ["", "", ""]
    (error,) = errors_of(folder)
    assert (error["what"], "c: ActorDiedError" in error["text"]) == ("died", True), error
    assert "every node passes alone" in error["text"]
    assert set(keys(folder).values()) == {1}


def test_a_killed_driver_of_a_submitted_job_is_gone_on_with(ray_nodes: RayNodes, tmp_path: Path) -> None:
    """`ray job submit -- python -m calibrate run --plan full`, its driver killed with -9 twice: no case is repeated."""
    of_a = ray_nodes.net.names[0]
    command = ("ray", "job", "submit", "--address", f"http://{ray_nodes.head}:8266", "--")
    command += (
        sys.executable,
        "-m",
        "calibrate",
        "run",
        "--address",
        "auto",
        "--plan",
        "full",
        "--allow-contended",
    )
    command += ("--out", str(tmp_path))
    folder, counts = tmp_path / "cluster-full", []
    for _ in range(2):
        text, status, _ = interrupted(
            ray_nodes, command, lambda words: sent(words, "a-c") + sent(words, "b-c") >= 3,
            lambda: kill(ray_nodes.net.running(of_a, f"{sys.executable} -m calibrate run")),
        )  # fmt: skip
        print(text)
        assert status != 0, "the job says that it failed"
        found = keys(folder)
        assert max(found.values()) == 1, "nothing is measured twice"
        counts.append(sum(found.values()))
    print(f"cases after the first kill {counts[0]}, after the second {counts[1]}, repeated 0")
    assert counts[1] >= counts[0] + 3
