"""Several deployments behind one workload: who gets which request, and that nothing else changes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import toy
import toy_tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from test_runs_equal_steps import COUNTS, TIMES, assert_same

from clustersim.errors import InputError
from clustersim.hardware.site import load_site
from clustersim.kinds import kinds
from clustersim.network.wan import fibre_latency_s
from clustersim.results.result import Result
from clustersim.scenario.load import load
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario
from clustersim.serving.replica import Replica
from clustersim.simulation import simulate

GATEWAYS = [
    pytest.param({"kind": kind, **example}, id=f"{kind}-{number}")
    for kind, part in kinds("router").items()
    for number, example in enumerate(part.examples)
]


def fleet(
    gateway: Any = None, deployments: tuple[dict[str, Any], ...] = ({}, {}), **changes: Any
) -> Scenario:
    """Return H100s in Iowa and B200s in Quebec behind one workload; two deployments, `near` and `far`."""
    sites = changes.pop("sites", ("us-iowa", "ca-quebec"))
    nodes = changes.pop("nodes", ("hgx-h100", "hgx-b200"))
    names = ("near", "far", "farther")[: len(deployments)]
    clusters = [
        {"name": f"pool-{name}", "node": node} for name, node in zip(names, (*nodes, nodes[0]), strict=False)
    ]
    workload = {"to": list(names), "num_requests": 60, **changes.pop("workload", {})}
    if gateway is not None:
        workload["gateway"] = gateway
    served = [
        {"name": name, "model": "llama-3.1-8b", "on": cluster["name"], **settings}
        for name, cluster, settings in zip(names, clusters, deployments, strict=True)
    ]
    return toy.scenario(
        fleet=[
            {"site": site, "clusters": [cluster]}
            for site, cluster in zip((*sites, sites[0]), clusters, strict=False)
        ],
        deployments=served,
        workload=workload,
        **changes,
    )


def went(result: Result) -> dict[str, int]:
    """Return the requests that went to each deployment."""
    return {str(name): int(num) for name, num in result.requests["deployment"].value_counts().items() if num}


def rows(result: Result) -> dict[str, np.ndarray]:
    """Return the columns that both modes must agree on."""
    names = (*TIMES, *COUNTS, "deployment", "cached_tokens")
    return {name: result.requests[name].to_numpy() for name in names}


# ---- every router -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_runs_and_steps_agree_and_nothing_is_lost(gateway: dict[str, Any]) -> None:
    scenario = fleet(
        gateway,
        ({"replicas": 2, "router": gateway}, {"scheduler": {"kind": "chunked_prefill", "max_num_seqs": 8}}),
        workload={
            "arrivals": {"kind": "gamma", "rate": "60 req/s", "cv": 3}, "slo": {"ttft": "80 ms"}, "gateway_site": "us-iowa",
            "prefix": {"kind": "shared_system_prompt", "num_prompts": 4, "tokens": 700},
        },
    )  # fmt: skip
    runs = simulate(scenario)
    steps = simulate(scenario.with_(("engine.mode", "stepwise")))
    every = rows(runs)
    assert_same(every, rows(steps), 1e-9)
    np.testing.assert_array_equal(every["deployment"], rows(steps)["deployment"])
    np.testing.assert_array_equal(every["cached_tokens"], rows(steps)["cached_tokens"])
    deployments = runs.metrics["deployments"]
    assert sum(each["num_requests"] for each in deployments.values()) == runs["num_requests"] == 60
    assert {name: each["num_requests"] for name, each in deployments.items()} == {
        "near": 0,
        "far": 0,
        **went(runs),
    }
    assert np.isfinite(every["finish_s"]).all()
    replicas = runs.requests.groupby("deployment", observed=True)["replica"].unique()
    for name, numbers in replicas.items():
        assert set(numbers) <= ({0, 1} if name == "near" else {2})
    json.dumps(runs.metrics, allow_nan=False)


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_whole_tasks_go_to_one_deployment(gateway: dict[str, Any]) -> None:
    talk = {"kind": "conversation", "turns": 3, "new": 50, "think_time": "1 s"}
    scenario = fleet(
        gateway,
        ({"replicas": 2}, {}),
        workload={"num_requests": 20, "tasks": {"strategy": talk, "accuracy": 0.4}},
    )
    runs = simulate(scenario)
    assert_same(rows(runs), rows(simulate(scenario.with_(("engine.mode", "stepwise")))), 1e-9)
    assert runs["tasks_ended"] == 20
    assert (runs.requests.groupby("task")["deployment"].nunique() == 1).all()
    assert sum(went(runs).values()) == 60
    assert set(runs.metrics["tasks"]["asks"]["accuracy_rests_on"]) == {"near", "far"}


@pytest.mark.parametrize("seed", range(40))
def test_caches_are_seen_alike_in_runs_and_in_steps(seed: int) -> None:
    """Little KV, prompts that begin alike, long answers: idle prefixes give way in the middle of runs."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["prefix_aware", "kv_aware", "slo_aware"]))
    given_settings = {
        "prefix_aware": {"threshold": 0.05, "max_difference": 100},
        "kv_aware": {"weight": 20.0},
    }
    block_size = int(rng.choice([1, 4, 16]))
    scenario = toy.scenario(
        deployment={"replicas": 3, "router": {"kind": kind, **given_settings.get(kind, {})}, "max_model_len": 200,
                    "serving_engine": toy_tasks.ENGINE},
        workload={
            "arrivals": {"kind": "deterministic", "rate": f"{2 ** int(rng.integers(5, 8))} req/s"}, "num_requests": 60,
            "prefix": {"kind": "shared_system_prompt", "num_prompts": 9, "zipf_exponent": 0, "tokens": 50},
            "lengths": {"kind": "independent", "input": 5, "answer": {"kind": "uniform", "low": 1, "high": 140}},
        },
    )  # fmt: skip
    mix = toy_tasks.Mix(scenario, block_size, [int(300 // block_size)])
    runs, steps = toy_tasks.play(mix), toy_tasks.play(mix, "stepwise")
    assert_same(runs.rows, steps.rows, 1e-9)
    np.testing.assert_array_equal(runs.rows["cached_tokens"], steps.rows["cached_tokens"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_mixes_behind_gateways_agree(seed: int) -> None:
    """Tasks and plain requests, tight in everything, over two deployments of different size."""
    rng = np.random.default_rng(seed)
    mix = toy_tasks.draw_mix(rng)
    gateway = toy.ROUTERS[rng.integers(len(toy.ROUTERS))]
    workloads = [
        each.model_copy(update={"to": ("serve", "small"), "gateway": gateway})
        for each in mix.scenario.workloads
    ]
    mix = dataclasses.replace(mix, scenario=mix.scenario.model_copy(update={"workloads": workloads}))
    runs, steps = toy_tasks.play(mix), toy_tasks.play(mix, "stepwise")
    assert_same(runs.rows, steps.rows, 1e-9)
    np.testing.assert_array_equal(runs.rows["deployment"], steps.rows["deployment"])
    for front in runs.world.fronts:
        assert all((load.requests, load.tokens) == (0, 0) for load in front.loads)


def test_those_mixes_evict_in_the_middle_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = 0
    settle = Replica.settle

    def count(replica: Replica, now: float) -> None:
        nonlocal settled
        before = replica.counter
        settle(replica, now)
        settled += replica.counter > before

    monkeypatch.setattr(Replica, "settle", count)
    for seed in range(10):
        test_caches_are_seen_alike_in_runs_and_in_steps(seed)
    assert settled > 5


# ---- what routers are for -----------------------------------------------------------------------------------------

PROMPTS = {"kind": "shared_system_prompt", "num_prompts": 40, "zipf_exponent": 0, "tokens": 2000}


def hit_frac(router: Any) -> float:
    """Return the share of input tokens found in the caches of four replicas."""
    scenario = toy.scenario(
        deployment={"replicas": 4, "router": router},
        workload={
            "prefix": PROMPTS,
            "num_requests": 300,
            "arrivals": {"kind": "poisson", "rate": "20 req/s"},
        },
    )
    result = simulate(scenario)
    return float(result.requests["cached_tokens"].sum() / result.requests["input_tokens"].sum())


def test_those_who_look_at_prefixes_find_more_of_them() -> None:
    blind = max(hit_frac("round_robin"), hit_frac("least_outstanding_requests"))
    for router in ("prefix_aware", {"kind": "kv_aware", "weight": 4}, "session_affine"):
        assert hit_frac(router) > 1.3 * blind, router


def test_a_conversation_stays_on_its_replica_until_that_dies() -> None:
    """Without prefix caching no KV draws it there: only the router does."""
    talk = {"kind": "conversation", "turns": 6, "new": 50, "think_time": "10 s"}

    def replicas(router: str, **changes: Any) -> tuple[Any, Result]:
        result = simulate(toy.scenario(
            deployment={"replicas": 4, "router": router, "prefix_caching": False, "parallelism": {"tp": 2}},
            cluster={"count": 1}, workload={"num_requests": 20, "tasks": {"strategy": talk, "accuracy": 0.4}}, **changes,
        ))  # fmt: skip
        return result.requests.sort_values("arrival_s").groupby("task")["replica"], result

    stays, _ = replicas("session_affine")
    assert (stays.nunique() == 1).all()
    assert stays.first().nunique() == 4
    assert (replicas("round_robin")[0].nunique() > 1).mean() > 0.8
    failure = {"kind": "accelerator", "at": ["20 s"], "repair": "1 h"}
    moved, result = replicas("session_affine", failures=[failure])
    assert set(moved.nunique()) == {1, 2}
    dead = set(result.requests.loc[result.requests["arrival_s"] < 20, "replica"]) - set(
        result.requests.loc[result.requests["arrival_s"] > 40, "replica"]
    )
    assert len(dead) == 1
    for _, visited in moved:
        assert list(dict.fromkeys(visited))[:-1] in ([], [*dead]), "it moves once, away from the dead one"


def test_the_cheaper_deployment_gets_what_it_has_room_for() -> None:
    def shares(rate: str, limit: float) -> dict[str, int]:
        scenario = fleet({"kind": "cost_aware", "max_requests": limit}, nodes=("hgx-h100", "hgx-h100"))
        cheap = scenario.with_(
            ("fleet.1.clusters.0.price", {"kind": "fixed", "rate": "0.5 USD/h"}),
            ("workload.arrivals", {"kind": "poisson", "rate": rate}),
        )
        return went(simulate(cheap))

    assert shares("1 req/s", 64) == {"far": 60}
    both = shares("60 req/s", 8)
    assert both["far"] > both["near"] > 5


def test_no_more_than_the_limit_goes_to_the_cheaper_while_the_other_has_room() -> None:
    result = simulate(fleet({"kind": "cost_aware", "max_requests": 5}, nodes=("hgx-h100", "hgx-h100"), workload={
        "arrivals": {"kind": "poisson", "rate": "30 req/s"}}).with_(
        ("fleet.1.clusters.0.price", {"kind": "fixed", "rate": "0.5 USD/h"})))  # fmt: skip
    every = result.requests
    for _, row in every[every["deployment"] == "near"].iterrows():
        others = every[(every["arrival_s"] < row["arrival_s"]) & (every["finish_s"] > row["arrival_s"])]
        assert (others["deployment"] == "far").sum() >= 5


def test_the_greener_site_gets_what_it_has_room_for() -> None:
    green = fleet("carbon_aware", nodes=("hgx-h100", "hgx-h100"))
    assert went(simulate(green)) == {"far": 60}, "Quebec's grid is hydropower"
    assert went(
        simulate(fleet("carbon_aware", nodes=("hgx-h100", "hgx-h100"), sites=("ca-quebec", "us-iowa")))
    ) == {"near": 60}


def test_load_is_shared_by_what_deployments_can_do() -> None:
    """Two H100 replicas and one B200: what is outstanding by what each can serve is even, however many they are."""
    scenario = fleet(None, ({"replicas": 4}, {}), nodes=("hgx-h100", "hgx-h100"), workload={
        "num_requests": 1500, "arrivals": {"kind": "poisson", "rate": "60 req/s"}})  # fmt: skip
    result = simulate(scenario)
    assert went(result)["near"] / went(result)["far"] == pytest.approx(4, rel=0.15)
    weighted = simulate(fleet({"kind": "weighted", "weights": {"near": 1, "far": 3}}))
    assert went(weighted) == {"near": 15, "far": 45}


# ---- admission, ways, failures ------------------------------------------------------------------------------------


def test_who_is_too_long_for_one_goes_to_one_that_can_hold_it() -> None:
    scenario = fleet(
        "round_robin",
        ({"max_model_len": 700}, {"max_model_len": 400}, {}),
        workload={"arrivals": {"kind": "poisson", "rate": "100 req/s"}},
    )
    result = simulate(scenario)
    tokens = (
        result.requests["input_tokens"]
        + result.requests["thinking_tokens"]
        + result.requests["answer_tokens"]
    )
    assert (result.requests["status"] == "finished").all()
    for name, limit in (("near", 700), ("far", 400)):
        assert tokens[result.requests["deployment"] == name].max() <= limit
    none = simulate(fleet(None, ({"max_model_len": 700}, {"max_model_len": 400})))
    too_long = tokens > 700
    assert none["failed"] == too_long.sum() > 0
    refused = none.requests["status"] == "rejected"
    assert set(none.requests.loc[refused, "deployment"]) == {"near"}, "by the one that holds most"


def test_users_whose_requests_are_refused_ask_again() -> None:
    users = {"kind": "closed_loop", "concurrency": 4}
    scenario = fleet(None, ({"max_model_len": 700}, {"max_model_len": 400}), workload={"arrivals": users})
    result = simulate(scenario)
    assert result["num_requests"] == 60
    assert 0 < result["failed"] < 60


def test_the_way_to_another_site_and_back_is_in_the_latency() -> None:
    iowa, quebec = load_site("us-iowa"), load_site("ca-quebec")
    way_s = 2 * fibre_latency_s(iowa, quebec)

    def ttft_s(**workload: Any) -> Any:
        few = {"kind": "deterministic", "rate": "0.1 req/s"}
        gateway = {"kind": "weighted", "weights": {"near": 1e-9, "far": 1}}
        result = simulate(fleet(gateway, workload={"arrivals": few, "num_requests": 5, **workload}))
        assert went(result) == {"far": 5}
        return (result.requests["first_token_s"] - result.requests["arrival_s"]).to_numpy()

    scenario = fleet()
    np.testing.assert_allclose(
        ttft_s(gateway_site="us-iowa") - ttft_s(), way_s + 2 * scenario.wan.latency_s.value, rtol=1e-6
    )
    np.testing.assert_allclose(ttft_s(gateway_site="ca-quebec"), ttft_s(), rtol=1e-9)
    assert way_s > 0.01


@pytest.mark.parametrize("tasks", [False, True])
def test_a_deployment_that_is_down_gets_nothing(tasks: bool) -> None:
    failure = {"kind": "site", "site": "us-iowa", "at": ["5 s"], "repair": "5 s"}
    work = {"tasks": {"strategy": {"kind": "vote", "n": 3}, "accuracy": 0.4}} if tasks else {}
    scenario = fleet("round_robin", failures=[failure], workload=work)
    result = simulate(scenario)
    every = result.requests
    during = (every["arrival_s"] > 5.1) & (every["arrival_s"] < 9.9)
    if tasks:
        begun = result.tasks.set_index("task")["arrival_s"]
        during &= every["task"].map(begun) > 5.1
    assert during.sum() > 5
    assert set(every.loc[during, "deployment"]) == {"far"}
    assert set(every.loc[every["arrival_s"] < 4, "deployment"]) == {"near", "far"}
    assert set(every["status"]) <= {"finished", "cancelled"}
    steps = simulate(scenario.with_(("engine.mode", "stepwise")))
    assert_same(rows(result), rows(steps), 1e-9)


def test_disaggregated_beside_colocated() -> None:
    scenario = fleet(workload={"to": ["near", "far"]}, deployments=({}, {"prefill_by": "farther"}, {}))
    result = simulate(scenario)
    assert set(went(result)) == {"near", "far"}
    assert_same(rows(result), rows(simulate(scenario.with_(("engine.mode", "stepwise")))), 1e-9)


def test_precision_and_layout_may_differ() -> None:
    scenario = fleet(None, ({"precision": {"weights": "fp8", "activations": "fp8", "kv_cache": "fp8"}},
                            {"model": "llama-3.1-70b", "parallelism": {"tp": 4}}))  # fmt: skip
    result = simulate(scenario)
    assert set(went(result)) == {"near", "far"}
    assert (
        result.metrics["deployments"]["near"]["completed"] + result.metrics["deployments"]["far"]["completed"]
        == 60
    )


def test_tenants_are_counted_over_all_their_deployments() -> None:
    tenants = [{"name": "one", "weight": 1, "slo": {"ttft": "1 s"}}, {"name": "two", "weight": 2}]
    result = simulate(fleet("round_robin", workload={"tenants": tenants}))
    counted = result.metrics["tenants"]
    assert sum(each["num_requests"] for each in counted.values()) == 60
    assert sum(each["completed"] for each in counted.values()) == 60
    assert counted["asks.one"]["goodput_frac"] == 1.0


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workload", "what"),
    [
        ({"to": ["near", "fra"]}, 'no deployment "fra"'),
        ({"to": ["near"]}, "two deployments or more"),
        ({"to": ["near", "near"]}, "each once"),
        ({"to": "near", "gateway": "round_robin"}, "has no effect"),
        ({"to": "near", "gateway_site": "us-iowa"}, "has no effect"),
        ({"gateway": "round_robbin"}, "round_robin"),
        ({"gateway": {"kind": "weighted", "weights": {"near": 1}}}, "has none for far"),
        ({"gateway": {"kind": "weighted", "weights": {"near": 1, "far": -1}}}, "greater than 0"),
        ({"gateway_site": "us-lowa"}, 'no site "us-lowa"'),
        ({"gateway_site": "us-iowa", "tasks": {"strategy": "direct", "accuracy": 0.5}}, "no effect on tasks"),
        ({"gateway": {"kind": "cost_aware", "max_requests": 0}}, "greater than 0"),
        ({"to": []}, "two deployments or more"),
    ],
)
def test_bad_gateways_are_refused(workload: dict[str, Any], what: str) -> None:
    with pytest.raises((InputError, ValueError), match=what):
        plan(fleet(workload=workload))


def test_one_that_only_prefills_is_refused() -> None:
    with pytest.raises(InputError, match='"farther" only prefills'):
        plan(fleet(deployments=({}, {"prefill_by": "farther"}, {})))


def test_the_same_seed_gives_the_same_choice() -> None:
    scenario = fleet("power_of_two", workload={"arrivals": {"kind": "poisson", "rate": "100 req/s"}})
    one, other = simulate(scenario), simulate(scenario)
    assert one.requests.equals(other.requests)
    reseeded = simulate(scenario.with_(("seed", 1)))
    assert not np.array_equal(rows(one)["deployment"], rows(reseeded)["deployment"])


def test_a_fleet_of_two_generations_saves_what_it_gives_back() -> None:
    """The scenario as it is shown: the cheaper deployment is filled, the other one shrinks."""
    paid = {}
    for gateway in ({"kind": "cost_aware", "max_requests": 128}, "least_outstanding_requests"):
        result = simulate(load("heterogeneous_fleet", ["horizon=8 min"]).with_(("workload.gateway", gateway)))
        assert {each["regime"] for each in result.metrics["deployments"].values()} == {"STABLE"}
        assert result["goodput_frac"] > 0.99
        paid[str(gateway)] = result["usd"], went(result).get("b200", 0) / len(result.requests)
    (thrifty_usd, thrifty), (even_usd, even) = paid.values()
    assert thrifty_usd < 0.95 * even_usd
    assert thrifty > even
