"""Fleets that cannot be operated as they say: refused, with place, key and mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from clustersim.errors import InputError
from clustersim.scenario.load import load_with_plans

FLEET = """\
name: small
horizon: 10 s
fleet:
  - site: us-iowa
    clusters:
      - {name: pool, node: hgx-h100, count: 1}
deployments:
  - {name: serve, model: llama-3.1-8b, on: pool, DEPLOYMENT}
OTHERSworkloads:
  - name: asks
    to: serve
    arrivals: {kind: poisson, rate: 2 req/s}
    lengths: {kind: fixed, input: 100, answer: 20}
EXTRA
"""
PAIR = "  - {name: first, model: llama-3.1-8b, on: pool, autoscaler: {kind: reactive, min_replicas: 0, max_replicas: MOST}}\n"
BIG = "  - {name: big, model: llama-3.1-8b, on: pool, REPLICAS}\n"


def write(path: Path, deployment: str = "replicas: 1", others: str = "", extra: str = "") -> Path:
    text = FLEET.replace("DEPLOYMENT", deployment).replace("OTHERS", others).replace("EXTRA", extra)
    path.write_text(text)
    return path


CASES = {
    "an update of nobody": (
        {"extra": "updates:\n  - {deployment: serv, at: 1 s}"}, 15, ("updates.0.deployment", 'Did you mean "serve"'),
    ),
    "a failure of no cluster": (
        {"extra": "failures:\n  - {kind: node, cluster: pol, at: [1 s]}"}, 15, ("failures.0.cluster", "pool"),
    ),
    "a failure of no site": (
        {"extra": "failures:\n  - {kind: site, site: us-ohio, at: [1 s]}"}, 15, ("failures.0.site", "us-iowa"),
    ),
    "a failure without a time": (
        {"extra": "failures:\n  - {kind: accelerator}"}, 15, ("needs `at`", "`mtbf`"),
    ),
    "a failure at a time that is no list": (
        {"extra": "failures:\n  - {kind: accelerator, at: 1 s}"}, 15, ("failures.0.at", "a list of times, like [1 s]"),
    ),
    "a failure of no kind": (
        {"extra": "failures:\n  - {kind: nod, at: [1 s]}"}, 15, ("failures.0", 'Did you mean "node"'),
    ),
    "a link that keeps all": (
        {"extra": "failures:\n  - {kind: link, at: [1 s], left_frac: 1}"}, 15, ("failures.0.left_frac", "less than 1"),
    ),
    "an update of no replica at a time": (
        {"extra": "updates:\n  - {deployment: serve, at: 1 s, max_unavailable: 0}"}, 15, ("updates.0.max_unavailable",),
    ),
    "an update at no time": ({"extra": "updates:\n  - {deployment: serve}"}, 15, ("updates.0", '"at" is missing')),
    "no such policy": (
        {"deployment": "autoscaler: {kind: reactve, max_replicas: 2}"}, 8, ("autoscaler", 'Did you mean "reactive"'),
    ),
    "no most": ({"deployment": "autoscaler: {kind: reactive}"}, 8, ("autoscaler", '"max_replicas" is missing')),
    "a schedule below the least": (
        {"deployment": "autoscaler: {kind: scheduled, max_replicas: 2, times: [{from: 0 s, replicas: 0}]}"}, 8,
        ("autoscaler", "0 replicas are fewer than min_replicas: 1"),
    ),
    "weights from nowhere": ({"deployment": "startup: {weights_from: disk}"}, 8, ("weights_from", "local_store")),
    "no such retry": ({"deployment": "retries: {resume: again}"}, 8, ("retries.resume", "'restart'", "'continue'")),
    "nobody ever": ({"deployment": "replicas: 0"}, 8, ("never has a replica", "autoscaler")),
    "more than most": (
        {"deployment": "replicas: 3, autoscaler: {kind: reactive, max_replicas: 2}"}, 8, ("3 is more than", "max_replicas: 2"),
    ),
    "least above most": (
        {"deployment": "autoscaler: {kind: reactive, min_replicas: 3, max_replicas: 2}"}, 8, ("min_replicas: 3",),
    ),
    "more than the cluster": (
        {"deployment": "parallelism: {tp: 2}, autoscaler: {kind: reactive, max_replicas: 5}"}, 8,
        ("autoscaler.max_replicas", "5 replicas of 2 accelerators need 10", "has 8", "at most 4"),
    ),
    "starved by one that stays": (
        {"deployment": "replicas: 0, autoscaler: {kind: reactive, min_replicas: 0, max_replicas: 2}",
         "others": BIG.replace("REPLICAS", "replicas: 8")},
        8, ('"serve" could wait for accelerators for ever', "keep 8 of its 8", "min_replicas"),
    ),
    "starved by its partner": (
        {"deployment": "replicas: 0, prefill_by: first, autoscaler: {kind: reactive, max_replicas: 4}",
         "others": PAIR.replace("MOST", "8")},
        8, ('"serve" could wait', "all that first may have"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(name: str, tmp_path: Path) -> None:
    changes, line, says = CASES[name]
    path = write(tmp_path / "fleet.yaml", **changes)
    with pytest.raises(InputError) as refused:
        load_with_plans(path)
    text = str(refused.value)
    assert f"fleet.yaml:{line}" in text
    for words in says:
        assert words in text


def test_what_can_be_operated_is_not_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "fleet.yaml",
        "replicas: 0, prefill_by: first, autoscaler: {kind: reactive, min_replicas: 0, max_replicas: 7}",
        PAIR.replace("MOST", "7"),
        "updates:\n  - {deployment: first, at: 1 s}\nfailures:\n  - {kind: site, mtbf: 2 years}\n"
        "  - {kind: link, cluster: pool, at: [1 s], left_frac: 0.5}",
    )
    load_with_plans(path)
