"""Settings without effect: each is named once, and only where the run is the same without it."""

from __future__ import annotations

from typing import Any

import pytest
import toy

from clustersim.results.result import Result
from clustersim.results.unused import without_effect
from clustersim.simulation import simulate

PAIR = [{"name": "prompts", "model": "llama-3.1-8b", "on": "pool"},
        {"name": "serve", "model": "llama-3.1-8b", "on": "pool", "prefill_by": "prompts"}]  # fmt: skip
#: An 8B model with room for a few inputs.
SMALL = {"name": "small", "step_overhead": "1 ms", "sequence_overhead": "10 us", "overlapped": False,
         "memory_frac": 0.24, "reserved": "2 GB"}  # fmt: skip
BUSY = {"arrivals": {"kind": "poisson", "rate": "40 req/s"}, "num_requests": 300}


def unused(**changes: Any) -> list[str]:
    return simulate(toy.scenario(**changes))["settings_without_effect"]


def ran(scheduler: str, **deployment: Any) -> Result:
    return simulate(toy.scenario(deployment={"scheduler": scheduler, **deployment}, workload=BUSY))


def test_a_network_that_no_replica_crosses_is_named_once() -> None:
    cluster = {"network": {"kind": "rail_optimised", "nic": "100 Gb/s"}}
    two = [{**PAIR[0], "name": "serve"}, PAIR[0]]
    found = unused(cluster=cluster, deployments=two, workload={"to": "serve"})
    assert found.count("fleet cluster pool.network: a replica stays within one node") == 1


def test_a_network_that_kv_crosses_has_an_effect() -> None:
    cluster = {"network": {"kind": "rail_optimised", "nic": "100 Gb/s"}}
    assert unused(cluster=cluster, deployments=PAIR, workload={"to": "serve"}) == []


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("priority", "kind priority, but all requests have priority 0: first come first served"),
        ("fair", "kind fair, but all requests are of one tenant: first come first served"),
    ],
)
def test_an_order_among_equals(kind: str, why: str) -> None:
    plain, ordered = ran("chunked_prefill"), ran(kind)
    assert f"deployments.serve.scheduler: {why}" in ordered["settings_without_effect"]
    assert ordered.requests.equals(plain.requests)
    squeezed = ran(kind, serving_engine=SMALL, max_model_len=3000)
    assert squeezed["num_preemptions"] > 0
    assert not any("first come first served" in line for line in squeezed["settings_without_effect"])


def test_an_order_among_unequals_has_an_effect() -> None:
    tenants = [{"name": "a", "weight": 1, "priority": 0}, {"name": "b", "weight": 1, "priority": 1}]
    for kind in ("priority", "fair"):
        assert unused(deployment={"scheduler": kind}, workload={"tenants": tenants}) == []


def test_a_transfer_to_nobody() -> None:
    why = "deployments.serve.kv_transfer: it names nobody in prefill_by, so no KV is sent to it"
    assert unused(deployment={"kv_transfer": {"when": "at_the_end"}}) == [why]
    pair = [PAIR[0], {**PAIR[1], "kv_transfer": {"when": "at_the_end"}}]
    assert unused(deployments=pair, workload={"to": "serve"}) == []


def test_retries_without_deaths() -> None:
    retries = {"retries": {"max_retries": 1}}
    assert unused(deployment=retries) == ["deployments.serve.retries: no replica died with a request on it"]
    failures = [{"kind": "node", "at": [f"{second} s"], "repair": "1 s"} for second in range(1, 20, 2)]
    result = simulate(
        toy.scenario(deployment={**retries, "replicas": 8, "parallelism": {"tp": 8}}, failures=failures)
    )
    assert result.requests["num_retries"].sum() > 0
    assert result["settings_without_effect"] == []
    pair = [{**PAIR[0], **retries}, PAIR[1]]
    why = "deployments.prompts.retries: those of the deployment that decodes are in force"
    assert unused(deployments=pair, workload={"to": "serve"}) == [why]


def test_a_startup_that_never_comes() -> None:
    def found(**changes: Any) -> list[str]:
        result = simulate(toy.scenario(deployment={"startup": {"warm_up": "1 s"}}, **changes))
        return without_effect(result.plans, result.served, result.scenario)

    why = "no replica starts: there are no failures, updates or autoscalers"
    assert found() == [f"deployments.serve.startup: {why}"]
    assert found(updates=[{"deployment": "serve", "at": "1 s"}]) == []


def test_adapters_that_nobody_asks_for_cost_all_the_same() -> None:
    lora = {"lora": {"max_loras": 4, "rank": 64}}
    result = simulate(toy.scenario(deployment=lora))
    (line,) = result["settings_without_effect"]
    assert line.startswith(
        "deployments.serve.lora: no request asked for an adapter; its slots take memory, and time"
    )
    plain = simulate(toy.scenario())
    assert result["p50_tpot_ms"] > plain["p50_tpot_ms"]
    assert result["kv_capacity_tokens"] < plain["kv_capacity_tokens"]
    assert unused(deployment=lora, workload={"adapters": {"num_adapters": 2}}) == []
