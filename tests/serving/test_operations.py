"""What scaling, failures and updates come to in whole simulations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import toy

from clustersim import simulate
from clustersim.errors import InputError
from clustersim.hardware.link import load_link
from clustersim.results.result import Result
from clustersim.scenario.schema import Scenario

SOON = {"provision": "1 s", "warm_up": "1 s"}
WEIGHTS_BYTES = 16.06e9
"""Of Llama 3.1 8B in bf16."""


def on(result: Result, deployment: str, start: float, end: float) -> float:
    """Return the mean number of replicas of a deployment that were on between two times."""
    rows = result.timeline
    mine = rows[(rows["deployment"] == deployment) & (rows["time_s"] >= start) & (rows["time_s"] < end)]
    return float(mine["replicas_on"].mean())


def finished(result: Result) -> pd.DataFrame:
    rows = result.requests
    assert (rows["status"] == "finished").all()
    return rows


def asks(at_s: float, num: int, **lengths: Any) -> dict[str, Any]:
    sizes = {"input": 200, "answer": 200, **lengths}
    return {"name": f"asks-{at_s:g}", "arrivals": {"kind": "all_at_once", "at": f"{at_s} s"}, "num_requests": num,
            "lengths": {"kind": "fixed", **sizes}}  # fmt: skip


# ---- scaling -------------------------------------------------------------------------------------------------


def asleep(**changes: Any) -> Scenario:
    """Return a deployment that sleeps, is woken twice, and sleeps in between."""
    scaler = {
        "kind": "reactive",
        "min_replicas": 0,
        "max_replicas": 2,
        "interval": "5 s",
        "scale_down_after": "20 s",
    }
    startup = {**SOON, **changes.pop("startup", {})}
    deployment = {"replicas": 0, "autoscaler": scaler, "startup": startup, **changes.pop("deployment", {})}
    cluster = {"remote_store": "object-store", **changes.pop("cluster", {})}
    made = toy.scenario(deployment=deployment, cluster=cluster, **changes)
    workloads = [{**asks(at, 1), "to": "serve"} for at in (3.0, 200.0)]
    return Scenario.model_validate({**made.model_dump(exclude_unset=True), "workloads": workloads})


def test_the_first_request_wakes_a_deployment_that_sleeps() -> None:
    result = simulate(asleep())
    waits = (finished(result)["scheduled_s"] - finished(result)["entered_s"]).tolist()
    store = load_link("object-store").bandwidth_bytes_per_s.value
    # Provision and warm-up of 1 s each, and between them the weights: from the store, then from the node's memory.
    assert waits[0] == pytest.approx(2.0 + WEIGHTS_BYTES / store, abs=0.2)
    assert 2.0 < waits[1] < 2.0 + 0.5 * WEIGHTS_BYTES / store
    assert result["cold_starts"] == 2
    assert on(result, "serve", 100.0, 190.0) == 0.0
    # It is paid for only while it holds an accelerator.
    spans = waits[0] + waits[1]
    assert spans < result["gpu_hours"] * 3600 < spans + 2 * 40.0
    always = simulate(asleep(deployment={"replicas": 2, "autoscaler": None}))
    assert "gpu_hours" not in always.metrics
    assert result["usd"] < 0.25 * always["usd"]
    assert result["energy_kwh"] < 0.25 * always["energy_kwh"]


def test_weights_come_again_from_the_store_where_they_are_not_kept_or_the_node_failed() -> None:
    forgets = simulate(asleep(startup={"keep_in_host_memory": False}))
    failed = simulate(
        asleep(cluster={"count": 1}, failures=[{"kind": "node", "at": ["100 s"], "repair": "10 s"}])
    )
    for result in (forgets, failed):
        rows = finished(result)
        waits = (rows["scheduled_s"] - rows["entered_s"]).tolist()
        assert waits[0] == pytest.approx(waits[1], rel=1e-6)


def test_a_surge_of_starts_shares_the_store() -> None:
    """Four replicas of one node load at once: each gets a quarter of what the node gets."""
    made = toy.scenario(
        deployment={"replicas": 0, "startup": SOON, "autoscaler": {"kind": "scheduled", "max_replicas": 4,
                    "interval": "1 s", "times": [{"from": "0 s", "replicas": 4}]}},
        workload={"num_requests": 20, "arrivals": {"kind": "all_at_once", "at": "9 s"}}, cluster={"count": 1, "remote_store": "object-store"},
    )  # fmt: skip
    one = simulate(asleep())
    four = simulate(made)
    alone = one.requests["scheduled_s"][0] - one.requests["entered_s"][0] - 2.0
    assert four["cold_start_s"] - 2.0 == pytest.approx(4 * alone, rel=0.05)


def shifting(priority: int = 0) -> Scenario:
    """Return a pair on one node of eight: first long inputs, then long outputs."""

    def deployment(name: str, **more: Any) -> dict[str, Any]:
        scaler = {"kind": "reactive", "min_replicas": 1, "max_replicas": 6, "interval": "2 s",
                  "scale_down_after": "6 s", **more.pop("scaler")}  # fmt: skip
        return {"name": name, "model": "llama-3.1-8b", "on": "pool", "replicas": 2, "autoscaler": scaler,
                "startup": SOON, **more}  # fmt: skip

    def half(name: str, rates: list[str], inputs: int, outputs: int) -> dict[str, Any]:
        return {"name": name, "to": "decode", "arrivals": {"kind": "rate_curve", "bins": {"width": "60 s", "rates": rates}},
                "lengths": {"kind": "fixed", "input": inputs, "answer": outputs}}  # fmt: skip

    return Scenario.model_validate(
        {
            "name": "shift", "warm_up": "none", "horizon": "120 s",
            "fleet": [{"site": "us-iowa", "clusters": [{"name": "pool", "node": "hgx-h100", "count": 1}]}],
            "deployments": [
                deployment("prefill", scaler={"target_requests": 4, "priority": priority}),
                deployment("decode", scaler={"target_requests": 12}, prefill_by="prefill",
                           kv_transfer={"when": "at_the_end"}),
            ],
            "workloads": [half("reads", ["5 req/s", "0 req/s"], 30_000, 20),
                          half("writes", ["0 req/s", "12 req/s"], 100, 1500)],
        }
    )  # fmt: skip


@pytest.mark.parametrize("priority", [0, 1])
def test_pools_shift_with_the_mix(priority: int) -> None:
    result = simulate(shifting(priority))
    finished(result)
    early = {name: on(result, name, 25.0, 60.0) for name in ("prefill", "decode")}
    late = {name: on(result, name, 85.0, 115.0) for name in ("prefill", "decode")}
    assert early["prefill"] > early["decode"] + 1
    assert late["decode"] > late["prefill"] + 1
    assert early["prefill"] > late["prefill"] + 1
    assert late["decode"] > early["decode"] + 1
    together = result.timeline.groupby("time_s")["replicas_on"].sum()
    assert together.max() <= 8 + 1e-9


def two_models(keep: bool = True) -> Scenario:
    """Return three models that take turns on one GPU pool with room for one of them at a time."""
    scaler = {
        "kind": "reactive",
        "min_replicas": 0,
        "max_replicas": 1,
        "interval": "1 s",
        "scale_down_after": "2 s",
    }
    names = {"small": "llama-3.1-8b", "other": "qwen3-8b", "third": "mistral-nemo-12b"}
    return Scenario.model_validate(
        {
            "name": "turns", "warm_up": "none",
            "fleet": [{"site": "us-iowa", "clusters": [
                {"name": "pool", "node": "hgx-h100", "count": 1, "remote_store": "object-store"}]}],
            "deployments": [
                {"name": name, "model": model, "on": "pool", "replicas": 0, "parallelism": {"tp": 8},
                 "startup": {**SOON, "keep_in_host_memory": keep}, "autoscaler": scaler}
                for name, model in names.items()
            ],
            "workloads": [{**asks(20.0 * turn + at, 2), "name": f"{name}-{turn}", "to": name}
                          for turn in range(3) for at, name in enumerate(names)],
        }
    )  # fmt: skip


def test_models_take_turns_on_one_pool() -> None:
    kept, forgotten = simulate(two_models()), simulate(two_models(keep=False))
    for result in (kept, forgotten):
        finished(result)
        together = result.timeline.groupby("time_s")["replicas_on"].sum()
        assert together.max() <= 1 + 1e-9
        starts = {name: values["cold_starts"] for name, values in result.metrics["deployments"].items()}
        assert min(starts.values()) >= 3, starts
    waits = [
        result.requests["e2el" if "e2el" in result.requests else "finish_s"].sum()
        for result in (kept, forgotten)
    ]
    assert waits[0] < waits[1], "weights in host memory make the turns shorter"


def test_a_prior_deployment_reclaims_accelerators() -> None:
    scenario = two_models()
    data = scenario.model_dump(exclude_unset=True)
    data["deployments"] = data["deployments"][:2]
    data["deployments"][0]["autoscaler"] = {"kind": "scheduled", "min_replicas": 0, "max_replicas": 1, "priority": 1,
                                            "interval": "1 s", "times": [{"from": "0 s", "replicas": 1}]}  # fmt: skip
    data["workloads"] = [{**asks(0.0, 3), "to": "small"}, {**asks(30.0, 1, answer=2000), "to": "other"}]
    data["workloads"] += [{**asks(31.0, 1), "to": "small"}]
    result = simulate(Scenario.model_validate(data))
    rows = finished(result)
    assert rows["scheduled_s"][3] < 40.0, "it drained the other's only replica"
    assert rows["scheduled_s"][4] > rows["finish_s"][3], "who had it waits until it is not needed"
    data["deployments"][0]["autoscaler"]["priority"] = 0
    data["deployments"][0]["autoscaler"]["min_replicas"] = 1
    with pytest.raises(InputError, match='"other" could wait for accelerators for ever'):
        simulate(Scenario.model_validate(data))


def test_who_waits_in_vain_is_told_and_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan refuses such fleets; were one let through, the run must not go on for ever."""
    data = two_models().model_dump(exclude_unset=True)
    data["deployments"][0] |= {"replicas": 1, "autoscaler": None}
    monkeypatch.setattr("clustersim.scenario.plan.operation_problems", lambda _scenario: ())
    monkeypatch.setattr("clustersim.simulation.operations._IN_VAIN_S", 600.0)
    with pytest.raises(InputError, match='wait for replicas of "other" that get no accelerators of "pool"'):
        simulate(Scenario.model_validate(data))


def test_who_is_reclaimed_before_it_is_up_again_and_again_waits_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The schedule leaves the node free for 2 s of 60 s; a cold start of the other takes longer."""
    data = two_models().model_dump(exclude_unset=True)
    data["deployments"] = data["deployments"][:2]
    times = [{"from": "0 s", "replicas": 0}, {"from": "5 s", "replicas": 1}]
    data["deployments"][0] |= {"autoscaler": {"kind": "scheduled", "min_replicas": 0, "max_replicas": 1, "priority": 0,
                                              "interval": "1 s", "period": "60 s", "times": times}}  # fmt: skip
    data["deployments"][1]["autoscaler"] |= {"priority": 1}
    data["deployments"][1]["startup"] = {"provision": "10 s"}
    data["workloads"] = [{**asks(10.0, 1), "to": "other"}]
    monkeypatch.setattr("clustersim.simulation.operations._IN_VAIN_S", 600.0)
    with pytest.raises(InputError, match=r'wait for replicas of "other" .* not for as long as a cold start'):
        simulate(Scenario.model_validate(data))


# ---- failures --------------------------------------------------------------------------------------------------


def hit(failure: dict[str, Any], mode: str = "runs", **deployment: Any) -> Result:
    """Return 12 requests of about 11 s, at once, on two replicas of one node, of which something fails after 3 s."""
    return simulate(
        toy.scenario(
            deployment={"replicas": 2, "startup": SOON, "max_model_len": 4000, **deployment},
            workload=asks(0.0, 12, answer=1500) | {"name": "asks"},
            cluster={"count": 1},
            failures=[{"at": ["3 s"], "repair": "5 s", **failure}],
            engine={"mode": mode},
        )
    )


def test_an_accelerator_takes_one_replica_with_it_and_a_node_all() -> None:
    seeds = [hit({"kind": "accelerator", "cluster": "pool"}, parallelism={"tp": 4})]
    one, both = seeds[0], hit({"kind": "node"}, parallelism={"tp": 4})
    assert one["retries"] == 6
    assert both["retries"] == 12
    for result, down in ((one, 1), (both, 2)):
        rows = finished(result)
        assert result["lost"] == 0
        assert result["lost_tokens"] == 0, "what was streamed is sent along"
        assert (rows["num_retries"] <= 1).all()
        lasted = result["window_s"][1]
        assert result["availability_frac"] < 1
        assert result["availability_frac"] > 1 - down * 15 / (2 * lasted)


def test_continuing_is_shorter_than_starting_again() -> None:
    on_from = hit({"kind": "node"})
    again = hit({"kind": "node"}, retries={"resume": "restart"})
    assert again["lost_tokens"] > 1000
    assert again["p50_e2el_ms"] > on_from["p50_e2el_ms"] + 1000
    assert again["p50_ttft_ms"] > on_from["p50_ttft_ms"] + 1000, "the first token that counts is the new one"


def test_a_request_that_may_not_be_tried_again_is_lost() -> None:
    result = hit({"kind": "node"}, retries={"max_retries": 0})
    rows = result.requests
    assert (rows["status"] == "lost").all()
    assert result["lost"] == 12
    assert result["lost_tokens"] == rows["lost_tokens"].sum() > 1000
    assert (rows["thinking_tokens"] + rows["answer_tokens"] == 0).all()
    assert result["completed"] == 0


def test_a_site_without_network_finishes_what_it_has_and_gets_nothing_new() -> None:
    result = simulate(
        toy.scenario(
            deployment={"replicas": 2},
            workload={"num_requests": 200, "arrivals": {"kind": "deterministic", "rate": "20 req/s"}},
            failures=[{"kind": "site", "at": ["4 s"], "repair": "3 s", "only_network": True}],
        )
    )
    rows = finished(result)
    assert result["retries"] == 0
    assert result["availability_frac"] == pytest.approx(1 - 3.0 / result["window_s"][1])
    entered = rows["entered_s"]
    shut = (entered > 4.0) & (entered < 7.0)
    assert shut.sum() == 60
    assert (rows["scheduled_s"][shut] >= 7.0).all()
    inside = rows["scheduled_s"] < 4.0
    assert ((rows["finish_s"] > 4.0) & (rows["finish_s"] < 7.0) & inside).any()


def pair(failures: list[dict[str, Any]], when: str = "layer_by_layer", seed: int = 0) -> Result:
    """Return requests that are prefilled on one node and decoded on the other."""
    deployments = [
        {"name": name, "model": "llama-3.1-70b", "on": "pool", "replicas": 1, "parallelism": {"tp": 8},
         "startup": SOON, **more}
        for name, more in (("prefill", {}), ("decode", {"prefill_by": "prefill", "kv_transfer": {"when": when}}))
    ]  # fmt: skip
    cluster = {
        "name": "pool",
        "node": "hgx-h100",
        "count": 2,
        "network": {"kind": "fat_tree", "nic": "8 Gb/s"},
    }
    return simulate(
        Scenario.model_validate(
            {
                "name": "pair", "warm_up": "none", "deployments": deployments, "failures": failures,
                "fleet": [{"site": "us-iowa", "clusters": [cluster]}],
                "workloads": [{**asks(0.0, 8, input=4000, answer=300), "to": "decode"}],
            }
        ),
        seed,
    )  # fmt: skip


def test_transfers_wait_for_a_dead_link_and_go_slower_on_a_weak_one() -> None:
    whole = pair([])
    dead, weak = (
        pair([{"kind": "link", "at": ["0.3 s"], "repair": "9 s", "left_frac": left}]) for left in (0.0, 0.5)
    )
    ends = [result.requests["finish_s"].max() for result in (whole, weak, dead)]
    assert ends[0] < ends[1] < ends[2]
    assert ends[2] == pytest.approx(ends[0] + 9.0, rel=0.01)
    for result in (dead, weak):
        finished(result)
        assert result["retries"] == 0


def test_overlapping_failures_of_a_link_end_when_the_last_is_repaired() -> None:
    """A dead link for 9 s, within which a weak one comes and goes: all is as if the link were dead for 9 s."""
    dead = {"kind": "link", "at": ["0.3 s"], "repair": "9 s"}
    both = [dead, dead, *[{"kind": "link", "at": ["2 s"] * 3, "repair": "1 s", "left_frac": 0.5}] * 2]
    ends = [pair(failures).requests["finish_s"].max() for failures in ([dead, dead], both)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)


def test_a_replica_that_spans_nodes_dies_of_a_dead_link() -> None:
    def spanning(left: float, count: int) -> Result:
        return simulate(
            toy.scenario(
                deployment={"model": "llama-3.1-70b", "parallelism": {"tp": 8, "pp": 2}, "startup": SOON},
                workload=asks(0.0, 4, answer=1000) | {"name": "asks"},
                cluster={"count": count},
                failures=[{"kind": "link", "at": ["3 s"], "repair": "60 s", "left_frac": left}],
            )
        )

    weak, dead, elsewhere = spanning(0.5, 2), spanning(0.0, 2), spanning(0.0, 4)
    assert weak["retries"] == 0
    assert dead["retries"] == 4
    assert finished(dead)["finish_s"].max() > 63.0, "no other nodes: it waits for the repair"
    assert finished(elsewhere)["finish_s"].max() < 63.0


@pytest.mark.parametrize("when", ["layer_by_layer", "at_the_end"])
@pytest.mark.parametrize("at", ["0.25 s", "0.9 s", "2.0 s"])
def test_both_sides_of_a_pair_may_die_with_kv_on_the_way(when: str, at: str) -> None:
    """Node 0 prefills, node 1 decodes: which one is hit is chance, so some seeds hit the one, some the other."""
    retries = set()
    for seed in range(4):
        result = pair([{"kind": "node", "at": [at, at], "repair": "1 s"}], when, seed=seed)
        finished(result)
        retries.add(result["retries"])
    assert max(retries) == 8
    assert len(retries) > 1 or at == "0.25 s", "not every request is on both sides"


# ---- tasks and updates -------------------------------------------------------------------------------------------


def test_tasks_whose_calls_are_lost_end_and_say_so() -> None:
    strategies = [
        "chain_of_thought", {"kind": "vote", "n": 3}, {"kind": "best_of_n", "n": 3},
        {"kind": "hedge", "after": "1 s"}, {"kind": "revise"}, {"kind": "tree_search"},
    ]  # fmt: skip
    for strategy in strategies:
        result = simulate(
            toy.scenario(
                deployment={"replicas": 2, "startup": SOON, "retries": {"max_retries": 0}},
                workload={"tasks": {"strategy": strategy, "accuracy": 0.3}, "num_requests": 40},
                cluster={"count": 1},
                failures=[{"kind": "node", "at": ["2 s", "5 s"], "repair": "1 s"}],
            )
        )
        assert result["tasks_ended"] == result["num_tasks"] == 40, strategy
        assert result["lost"] > 0
        gave_up = result.tasks["status"] == "gave_up"
        if strategy == "chain_of_thought":
            assert gave_up.sum() == result["lost"]
        assert set(result.requests["status"].unique()) <= {"finished", "lost", "cancelled"}


def test_a_rolling_update_renews_everyone_and_loses_nothing() -> None:
    def updated(most: int) -> Result:
        return simulate(
            toy.scenario(
                deployment={"replicas": 4, "startup": SOON},
                workload={"num_requests": 400, "arrivals": {"kind": "poisson", "rate": "10 req/s"}},
                updates=[{"deployment": "serve", "at": "5 s", "max_unavailable": most}],
            )
        )

    one, two = updated(1), updated(2)
    for result, most in ((one, 1), (two, 2)):
        finished(result)
        assert result["cold_starts"] == 4
        spans = result.timeline["replicas_on"]
        assert spans.min() >= 4 - most - 1e-9
        assert result["gpu_hours"] == pytest.approx(4 * result["window_s"][1] / 3600)
    below = [(result.timeline["replicas_on"] < 4 - 1e-9).sum() for result in (one, two)]
    assert below[0] > below[1] > 0


def test_nothing_changes_for_a_fleet_that_is_not_operated() -> None:
    """An autoscaler that never has cause to act leaves every time as it was."""
    plain = simulate(toy.scenario(deployment={"replicas": 2}))
    scaler = {
        "kind": "scheduled",
        "max_replicas": 2,
        "min_replicas": 2,
        "times": [{"from": "0 s", "replicas": 2}],
    }
    idle = simulate(toy.scenario(deployment={"replicas": 2, "autoscaler": scaler}))
    times = ["scheduled_s", "first_token_s", "finish_s"]
    pd.testing.assert_frame_equal(plain.requests[times], idle.requests[times])
    for key in (
        "usd",
        "energy_kwh",
        "mfu",
        "utilisation",
        "mean_kv_frac",
        "tokens_per_s_per_gpu",
        "num_accelerators",
    ):
        assert idle[key] == pytest.approx(plain[key], rel=1e-9), key
    assert idle["gpu_hours"] == pytest.approx(2 * np.diff(idle["window_s"])[0] / 3600)
