"""Equal seeds give equal bytes; a change in one part leaves all other randomness alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import toy

from clustersim import InputError, load, simulate

GIVEN = ("arrival_s", "input_tokens", "thinking_tokens", "answer_tokens")


def requests(seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    frame = simulate(toy.scenario(**changes), seed).requests
    return {name: frame[name].to_numpy() for name in frame}


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    return {name for name in GIVEN if one[name].tobytes() != other[name].tobytes()}


def test_same_seed_same_bytes() -> None:
    once, again = simulate(toy.scenario(), 7), simulate(toy.scenario(), 7)
    for frame in ("requests", "timeline"):
        one, other = getattr(once, frame), getattr(again, frame)
        assert one.equals(other)
        assert all(
            one[c].to_numpy().tobytes() == other[c].to_numpy().tobytes() for c in one.select_dtypes("number")
        )
    texts = [json.dumps({**each.metrics, "cpu_s": 0}) for each in (once, again)]
    assert texts[0] == texts[1]


def test_other_seeds_differ() -> None:
    assert differing(requests(1), requests(2)) == set(GIVEN)


def test_serving_otherwise_changes_no_request() -> None:
    static = requests(deployment={"scheduler": "static_batch", "replicas": 3, "router": "round_robin"})
    assert differing(requests(), static) == set()


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        ({"arrivals": {"kind": "poisson", "rate": "9 req/s"}}, {"arrival_s"}),
        ({"lengths": {"kind": "fixed", "input": 9, "thinking": 9, "answer": 9}}, set(GIVEN) - {"arrival_s"}),
        ({"slo": {"ttft": "1 s"}}, set()),
    ],
)
def test_one_part_of_a_workload_leaves_the_others_alone(workload: dict[str, Any], expected: set[str]) -> None:
    assert differing(requests(), requests(workload=workload)) == expected


def test_another_workload_disturbs_none() -> None:
    base = toy.scenario()
    other = base.workloads[0].model_copy(update={"name": "more"})
    both = simulate(base.model_copy(update={"workloads": [other, base.workloads[0]]})).requests
    mine = both[both["workload"] == "asks"]
    assert differing(requests(), {name: mine[name].to_numpy() for name in mine}) == set()


@pytest.mark.parametrize(
    "text", ["name: x\nfleet: []\n", "name: [\n", "name: x\nhorizon: 3 bananas\n", "extends: nobody\n"]
)
def test_a_refused_input_changes_nothing_on_disk(text: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError):
        load("bad.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]
    assert (tmp_path / "bad.yaml").read_text() == text
