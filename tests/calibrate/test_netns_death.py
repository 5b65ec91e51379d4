"""A node dies in mid-run: the run ends by itself, names it, measures the rest, and a second start goes on."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns import Net, RayNodes, why_not
from ruamel.yaml import YAML

WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
LIMIT_S = 170.0


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[RayNodes]:
    net = Net(3, 500)
    try:
        yield RayNodes(net, Path(tempfile.gettempdir(), net.names[0]))
    finally:
        net.close()
        shutil.rmtree(Path(tempfile.gettempdir(), net.names[0]), ignore_errors=True)


def keys(folder: Path) -> Counter[str]:
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return Counter(line["key"] for line in lines if line["kind"] == "samples")


def test_a_run_outlives_a_node_and_the_next_one_goes_on(ray_nodes: RayNodes, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "calibrate.cluster", "--plan", "quick", "--op", "p2p", "--op", "barrier")
    command += ("--allow-contended", "--out", str(tmp_path))
    folder = tmp_path / "cluster-quick"
    began = time.monotonic()
    run = ray_nodes.begin(0, *command)
    words: list[str] = []
    assert run.stdout is not None
    reader = threading.Thread(target=lambda: words.extend(run.stdout or ()), daemon=True)
    reader.start()
    try:
        while sum("b" in line.split()[3] for line in words if line.startswith("p2p")) < 5:
            assert run.poll() is None, "".join(words)
            assert time.monotonic() - began < LIMIT_S, "".join(words)
            time.sleep(0.1)
        recorded = ray_nodes.net.pids(ray_nodes.net.names[1])
        killed, at = ray_nodes.net.kill(ray_nodes.net.names[1]), time.monotonic()
        assert set(recorded) <= set(killed) or killed
        assert run.wait(LIMIT_S - (time.monotonic() - began)) == 0, "".join(words)
    finally:
        if run.poll() is None:
            ray_nodes.net.kill(ray_nodes.net.names[0])
        run.wait(10)
        reader.join(5)
        run.stdout.close()
    text = "".join(words)
    print(f"\n{text}\nkilled {len(killed)} processes of b; the run ended {time.monotonic() - at:.1f} s later")
    found = YAML(typ="safe").load(folder / "cluster.yaml")
    links = {(each["a"], each["b"]): each for each in found["links"]}
    assert list(found["quarantined"]) == ["b"]
    assert links["a", "c"]["bandwidth_bytes_per_s"]["v"] == pytest.approx(500e6 / 8 * 1448 / 1514, rel=0.05)
    assert links["b", "c"]["missing"].startswith("b: ")
    assert any(
        "b" in line["text"] for line in map(json.loads, (folder / "errors.jsonl").read_text().splitlines())
    )
    first = keys(folder)
    assert set(first.values()) == {1}

    ray_nodes.start(1)
    done = ray_nodes.inside(0, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stderr, done.stdout)
    second = keys(folder)
    repeated = [key for key, count in second.items() if count > 1]
    print(f"first start {len(first)} cases, second {len(second) - len(first)} more, repeated {len(repeated)}")
    assert not repeated
    found = YAML(typ="safe").load(folder / "cluster.yaml")
    assert not found["quarantined"]
    assert [each["missing"] for each in found["links"]] == ["", "", ""]
