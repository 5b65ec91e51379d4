"""Metrics of several deployments as one."""

from __future__ import annotations

from typing import Any

from clustersim.scenario.schema import Scenario
from clustersim.simulation import simulate


def model(name: str, replicas: int) -> dict[str, Any]:
    scaler = {"kind": "reactive", "min_replicas": 0, "max_replicas": 1, "priority": replicas}
    return {"name": name, "model": "llama-3.1-8b", "on": "pool", "parallelism": {"tp": 8},
            "autoscaler": scaler, "replicas": replicas}  # fmt: skip


def asks(to: str, at: str) -> dict[str, Any]:
    return {"name": to, "to": to, "num_requests": 2, "arrivals": {"kind": "all_at_once", "at": at},
            "lengths": {"kind": "fixed", "input": 100, "answer": 50}}  # fmt: skip


def test_accelerators_that_two_have_in_turn_count_once() -> None:
    result = simulate(Scenario.model_validate({
        "name": "in turn", "warm_up": "none",
        "fleet": [{"site": "us-iowa", "clusters": [{"name": "pool", "node": "hgx-h100", "count": 1}]}],
        "deployments": [model("first", 0), model("second", 1)],
        "workloads": [asks("second", "0 s"), asks("first", "1 s")],
    }))  # fmt: skip
    assert [each["num_accelerators"] for each in result["deployments"].values()] == [8, 8]
    assert result["num_accelerators"] == 8
    assert result["completed"] == 4


def test_tokens_of_a_step_are_said_where_drafts_make_them() -> None:
    deployment = {"name": "serve", "model": "llama-3.1-8b", "on": "pool"}
    scenario = {
        "name": "drafts", "warm_up": "none",
        "fleet": [{"site": "us-iowa", "clusters": [{"name": "pool", "node": "hgx-h100", "count": 1}]}],
        "workloads": [{"num_requests": 2, "arrivals": {"kind": "all_at_once"},
                       "lengths": {"kind": "fixed", "input": 100, "answer": 50}}],
    }  # fmt: skip
    drafts = {"kind": "ngram", "num_draft_tokens": 2, "acceptance": [0.5, 0.4]}
    plain = simulate(Scenario.model_validate({**scenario, "deployments": [deployment]}))
    made = simulate(
        Scenario.model_validate({**scenario, "deployments": [{**deployment, "speculation": drafts}]})
    )
    assert "speculation" not in plain["deployments"]["serve"]
    assert made["deployments"]["serve"]["speculation"]["tokens_per_step"] == 1 + 0.5 + 0.5 * 0.4
