"""What is said of a deployment that turns requests away, whose KV or slots for adapters are what is full."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Words, run, workload

from clustersim.report import load, tenants
from clustersim.report.html import html
from clustersim.report.notes import warnings
from clustersim.results.result import Result

LONG = {"kind": "fixed", "input": 4000, "answer": 2000}
#: Llama 3.1 8B with room for the KV of a few long requests on a GPU.
SMALL = {"name": "small", "step_overhead": "1 ms", "sequence_overhead": "10 us", "overlapped": False,
         "memory_frac": 0.28, "reserved": "3.5 GB"}  # fmt: skip


def one(**changes: Any) -> dict[str, Any]:
    return {"name": "d", "model": "llama-3.1-8b", "on": "c", **changes}


@pytest.fixture(scope="module")
def shedding() -> Result:
    people = {"name": "people", "weight": 1, "priority": 0}
    agents = {"name": "agents", "weight": 9, "priority": 9}
    limit = {"kind": "queue_limit", "max_outstanding": 16, "exempt_priority": 0}
    deployment = one(admission=limit, serving_engine=SMALL, max_model_len=8000, scheduler="priority")
    asked = workload("0.5 req/s", lengths=LONG, tenants=[people, agents])
    return run(horizon="10 min", deployments=[deployment], workload=asked)


def said(result: Result) -> str:
    return " ".join(load.keeps_up(result, result.plans[0]))


def test_one_that_turns_requests_away_is_not_said_to_keep_up(shedding):
    metrics = shedding.metrics
    assert metrics["shed_frac"] > 0.1
    assert metrics["num_preemptions"] > 0
    text = said(shedding)
    assert "keeps up" not in text
    assert f"it turned {metrics['shed_frac'] * 100:.1f} % of the requests away" in text
    assert "What is full is the KV cache: " in text
    assert f"preempted {metrics['num_preemptions']:,} times" in text
    assert "this capacity leaves out" in text
    assert "d keeps up" not in Words(html(shedding)).text


def test_an_overloaded_one_may_turn_requests_away_too(shedding):
    drowned = Result(**{**vars(shedding), "metrics": {**shedding.metrics, "deployments": {
        "d": {**shedding.metrics["deployments"]["d"], "regime": "OVERLOADED"}}}})  # fmt: skip
    share = shedding["shed_frac"] * 100
    assert f"d does not keep up: even with {share:.1f} % of the requests turned away, the load is" in said(
        drowned
    )


def test_each_tenant_has_its_row_with_who_was_turned_away_and_the_tail_of_a_token(shedding):
    rows = [
        dict(zip(tenants.COLUMNS, row, strict=True)) for row in tenants.tenants(shedding, shedding.plans[0])
    ]
    assert [row["Tenant"] for row in rows] == ["agents", "people"]
    shed = shedding["tenants"]["workload.agents"]["shed"]
    assert rows[0]["Turned away"].startswith(f"{shed:,} (")
    assert rows[1]["Turned away"] == "0"
    assert all(row["TPOT p99"].endswith("s") for row in rows)
    assert "Turned away" in Words(html(shedding)).text


def test_those_who_gave_up_waiting_were_not_turned_away_on_arrival():
    slo = {"ttft": "100 ms"}
    deployment = one(admission="deadline", scheduler={"kind": "chunked_prefill", "max_num_seqs": 2})
    late = run(horizon="20 s", deployments=[deployment], workload=workload("5 req/s", slo=slo))
    assert late["shed"] > 0
    notes = " ".join(warnings(late))
    assert f"d gave up {late['shed']:,} requests that had waited in its queue for too long" in notes
    assert "on arrival" not in notes


def test_on_arrival_and_while_waiting_are_told_apart(shedding):
    notes = " ".join(warnings(shedding))
    assert f"d turned away {shedding['shed']:,} requests on arrival" in notes
    assert "gave up" not in notes


@pytest.mark.parametrize(("slots", "seqs", "waits"), [(1, 64, True), (8, 4, False)])
def test_waiting_for_slots_of_adapters_is_named(slots: int, seqs: int, waits: bool):
    deployment = one(
        lora={"max_loras": slots, "rank": 8}, scheduler={"kind": "chunked_prefill", "max_num_seqs": seqs}
    )
    asked = workload("10 req/s", adapters={"num_adapters": 8})
    result = run(horizon="30 s", deployments=[deployment], workload=asked)
    assert result["regime"] != "STABLE"
    text = said(result)
    assert (f"wait for a slot for their adapter (max_loras {slots})" in text) == waits
    assert ("What is full is the batch" in text) != waits
    assert any("their adapter" in note for note in warnings(result)) == waits
