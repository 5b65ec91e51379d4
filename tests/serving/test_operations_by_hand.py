"""Cold starts, failures, retries, updates and reclaimed accelerators, followed with a pencil.

Every engine step takes 0.1 s, so that a request of 10 output tokens takes 1 s. Weights are 50.4 GB, which a host link of
63 GB/s, of which 80 % are reached, brings in 1 s; with 0.2 s to provision and 0.3 s to warm up a cold start takes 1.5 s.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import toy
import toy_fleet
import toy_tasks

from clustersim.records import FINISHED, LOST, REPLICA_STATE, SHED
from clustersim.results.held import fleet_metrics, held_by
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario

WEIGHTS_BYTES = 50.4e9
START = {"provision": "0.2 s", "warm_up": "0.3 s", "weights_from": "host_memory"}
#: Launch and latency of links are left out by the pencil.
SLACK_S = 1e-3


def deployment(name: str = "serve", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "model": "llama-3.1-8b", "on": "pool", "startup": START,
        "serving_engine": {**toy_tasks.ENGINE, "frontend": "0 s"},
        "scheduler": {"kind": "chunked_prefill", "token_budget": 100_000}, **more,
    }  # fmt: skip


def asks(at: float, to: str = "serve", num: int = 1, **more: Any) -> dict[str, Any]:
    return {"name": f"{to}-{at:g}", "to": to, "num_requests": num, "lengths": {"kind": "fixed", "input": 10, "answer": 10},
            "arrivals": {"kind": "all_at_once", "at": f"{at} s"}, **more}  # fmt: skip


def play(
    deployments: list[dict[str, Any]],
    workloads: list[dict[str, Any]],
    cluster: dict[str, Any] | None = None,
    weights_bytes: float = WEIGHTS_BYTES,
    **more: Any,
) -> toy_tasks.Played:
    pool = {"name": "pool", "node": "hgx-h100", "count": 1, **(cluster or {})}
    made = Scenario.model_validate(
        {"name": "hand", "warm_up": "none", "fleet": [{"site": "us-iowa", "clusters": [pool]}],
         "deployments": deployments, "workloads": workloads, **more}
    )  # fmt: skip
    mix = toy_tasks.Mix(made, 16, [100_000] * len(deployments), toy.Constant(0.1), exact=False)
    with mock.patch.object(DeploymentPlan, "weights_bytes", weights_bytes):
        return toy_tasks.play(mix)


def states(played: toy_tasks.Played, replica: int = 0) -> list[tuple[str, float, float]]:
    """Return (state, start, end) of a replica; those that it left in the instant are left out."""
    spans = toy_fleet.spans_of(played)
    rows = zip(*(spans[name].tolist() for name in ("replica", "state", "start_s", "end_s")), strict=True)
    return [
        (REPLICA_STATE[state], start, end)
        for number, state, start, end in rows
        if number == replica and end > start
    ]


def assert_states(played: toy_tasks.Played, replica: int, *expected: tuple[str, float]) -> None:
    """Check (state, start) of each; the last lasts to the end."""
    found = states(played, replica)
    assert [state for state, *_ in found] == [state for state, _ in expected]
    assert [start for _, start, _ in found] == pytest.approx([start for _, start in expected], abs=SLACK_S)


def metrics(played: toy_tasks.Played) -> dict[str, Any]:
    """Return what a fleet of one deployment came to, up to its last answer."""
    window = (0.0, float(np.nanmax(played.rows["finish_s"])))
    front, world = played.world.fronts[0], played.world
    served: Any = SimpleNamespace(requests=played.rows, length_s=window[1])
    return fleet_metrics(world.scenario, front.plan, served, held_by(front.plan, 0, world.spans, window))


# ---- failures and retries ----------------------------------------------------------------------------------------

NODE = {"kind": "node", "at": ["0.55 s"], "repair": "1 s"}


def test_a_request_goes_on_where_its_node_failed() -> None:
    """Five tokens by 0.55 s; the node is back at 1.55 s, the replica at 3.05 s; tokens 6 to 10 end at 3.55 s."""
    played = play([deployment()], [asks(0.0)], failures=[NODE])
    rows = played.rows
    assert rows["first_token_s"][0] == pytest.approx(0.1)
    assert rows["finish_s"][0] == pytest.approx(3.55, abs=SLACK_S)
    assert (rows["num_retries"][0], rows["lost_tokens"][0]) == (1, 0)
    assert_states(played, 0, ("up", 0.0), ("queued", 0.55), ("starting", 1.55), ("up", 3.05))
    found = metrics(played)
    assert found["gpu_hours"] * 3600 == pytest.approx(0.55 + 2.0, abs=SLACK_S)
    assert found["availability_frac"] == pytest.approx(1.05 / 3.55, abs=SLACK_S)
    assert found["mean_replicas_on"] == pytest.approx(1.05 / 3.55, abs=SLACK_S)
    assert (found["cold_starts"], found["retries"], found["lost"], found["lost_tokens"]) == (1, 1, 0, 0)
    assert found["cold_start_s"] == pytest.approx(1.5, abs=SLACK_S)
    assert found["accelerator_wait_s"] == pytest.approx(1.0)


def test_a_request_begins_anew_where_that_is_the_policy() -> None:
    played = play([deployment(retries={"resume": "restart"})], [asks(0.0)], failures=[NODE])
    rows = played.rows
    assert rows["first_token_s"][0] == pytest.approx(3.15, abs=SLACK_S)
    assert rows["finish_s"][0] == pytest.approx(4.05, abs=SLACK_S)
    assert (rows["num_retries"][0], rows["lost_tokens"][0]) == (1, 5)
    assert metrics(played)["lost_tokens"] == 5


@pytest.mark.parametrize(("resume", "tokens"), [("restart", 5 + 4), ("continue", 9)])
def test_a_request_that_fails_too_often_is_lost_with_all_it_made(resume: str, tokens: int) -> None:
    """Tried again once: five tokens by 0.55 s, and from 3.05 s on four more by 3.5 s, when the node fails again."""
    retries = {"max_retries": 1, "resume": resume}
    failures = [{**NODE, "at": ["0.55 s", "3.5 s"]}]
    played = play([deployment(retries=retries)], [asks(0.0)], failures=failures)
    rows = played.rows
    assert rows["status"][0] == LOST
    assert rows["lost_tokens"][0] == tokens
    assert rows["finish_s"][0] == pytest.approx(3.5)
    assert (metrics(played)["lost"], metrics(played)["lost_tokens"]) == (1, tokens)


def test_a_replica_whose_accelerator_fails_starts_on_another_at_once() -> None:
    """The one of eight that fails is drawn at random: with a replica on each group of four, one of them dies."""
    failures = [{"kind": "accelerator", "at": ["0.55 s"], "repair": "1 h"}]
    four = {"tp": 4}
    played = play(
        [deployment(parallelism=four, replicas=2)], [asks(0.0, num=2)], {"count": 2}, failures=failures
    )
    dead = int(np.argmax([len(states(played, replica)) for replica in range(2)]))
    # Node 1 has room. Four host links bring the weights in a quarter of a second.
    assert_states(played, dead, ("up", 0.0), ("starting", 0.55), ("up", 1.30))
    assert_states(played, 1 - dead, ("up", 0.0))
    assert sorted(played.rows["num_retries"]) == [0, 1]


def test_a_link_that_fails_holds_a_transfer_up_for_as_long() -> None:
    """KV of 43,335 tokens, 5.68 GB, passes eight ports of 1 GB/s, of which 71 % are reached, in 1 s; 2 s more if they fail."""
    tokens = 43_335
    pair = [
        deployment("prefill", parallelism={"tp": 8}),
        deployment("serve", parallelism={"tp": 8}, prefill_by="prefill", kv_transfer={"when": "at_the_end"}),
    ]
    work = [asks(0.0, lengths={"kind": "fixed", "input": tokens, "answer": 10})]
    cluster = {"count": 2, "network": {"kind": "fat_tree", "nic": "8 Gb/s"}}
    link = {"kind": "link", "at": ["0.6 s"], "repair": "2 s"}
    for left, more in ((None, 0.0), (0.0, 2.0), (0.5, 0.5 * 1.0)):
        failures = [] if left is None else [{**link, "left_frac": left}]
        played = play(pair, work, cluster, failures=failures)
        moved = played.world.transfers
        assert moved.bytes[0] == pytest.approx(131_072 * tokens)
        assert moved.start_s[0] == pytest.approx(0.1, abs=SLACK_S)
        assert moved.end_s[0] == pytest.approx(0.1 + 1.0 + more, abs=2 * SLACK_S)
        assert played.rows["finish_s"][0] == pytest.approx(1.1 + more + 0.9, abs=2 * SLACK_S)
        assert played.rows["num_retries"][0] == 0


def test_a_site_without_power_loads_all_replicas_at_once_from_the_store() -> None:
    """Two nodes share 8 GB/s of the store for 16 GB each: 4 s, and 0.1 s to the first byte."""
    startup = {**START, "weights_from": "remote_store"}
    cluster = {"count": 2, "remote_store": "object-store", "remote_store_total": "8 GB/s"}
    played = play(
        [deployment(replicas=2, parallelism={"tp": 8}, startup=startup)], [asks(0.0, num=2)], cluster, 16e9,
        failures=[{"kind": "site", "at": ["0.55 s"], "repair": "2 s"}],
    )  # fmt: skip
    up_s = 0.55 + 2.0 + 0.2 + 4.1 + 0.3
    for replica in range(2):
        assert_states(played, replica, ("up", 0.0), ("queued", 0.55), ("starting", 2.55), ("up", up_s))
    assert (played.rows["num_retries"] == 1).all()
    # Those who are up first get both requests.
    assert played.rows["finish_s"] == pytest.approx([up_s + 0.5] * 2, abs=SLACK_S)
    found = metrics(played)
    assert found["gpu_hours"] * 3600 == pytest.approx(16 * (0.55 + up_s + 0.5 - 2.55), abs=16 * SLACK_S)
    assert found["availability_frac"] == pytest.approx(1.05 / (up_s + 0.5), abs=SLACK_S)


def test_failures_at_random_come_as_often_as_they_say() -> None:
    """64 accelerators, one in 640 s each: one in 10 s, 200 in 2,000 s, with a standard deviation of 14."""
    failures = [{"kind": "accelerator", "mtbf": "640 s", "repair": "1 s"}]
    work = asks(0.0, num=21, arrivals={"kind": "deterministic", "rate": "0.01 req/s"})
    played = play([deployment(replicas=64)], [work], {"count": 8}, failures=failures)
    spans = toy_fleet.spans_of(played)
    assert played.rows["finish_s"].max() == pytest.approx(2001.0, abs=5.0)
    assert 140 < (REPLICA_STATE[1] == np.array(REPLICA_STATE)[spans["state"]]).sum() < 260


# ---- cold starts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "cluster", "seconds"),
    [
        ("host_memory", {}, 50.4 / (2 * 50.4)),
        ("local_store", {"local_store": "nvme-gen4-8"}, 50.4 / 52),
        ("remote_store", {"remote_store": "object-store"}, 50.4 / 8 + 0.1),
        ("remote_store", {"remote_store": "object-store", "remote_store_total": "4 GB/s"}, 50.4 / 4 + 0.1),
    ],
)
def test_a_cold_start_is_bytes_over_bandwidth_and_is_expected_to_be(
    source: str, cluster: dict[str, Any], seconds: float
) -> None:
    sleeps = {"kind": "reactive", "min_replicas": 0, "max_replicas": 1, "interval": "1 h"}
    startup = {**START, "weights_from": source}
    scaled = deployment(replicas=0, autoscaler=sleeps, startup=startup, parallelism={"tp": 2})
    played = play([scaled], [asks(1.0)], cluster)
    up_s = 1.0 + 0.2 + seconds + 0.3
    assert_states(played, 0, ("starting", 1.0), ("up", up_s))
    assert played.rows["finish_s"][0] == pytest.approx(up_s + 1.0, abs=SLACK_S)
    life = played.world.lifecycles[0]
    assert life.expected_start_s == pytest.approx(up_s - 1.0, abs=SLACK_S), "as the last one"
    life.last_start_s = None
    with mock.patch.object(DeploymentPlan, "weights_bytes", WEIGHTS_BYTES):
        assert life.expected_start_s == pytest.approx(up_s - 1.0, abs=0.101), "but for the store's latency"


def test_a_deployment_sleeps_when_nobody_has_asked_for_long_enough() -> None:
    """It looks each 0.25 s. The first request ends just after 3.5 s, and 0.5 s later the replica goes."""
    sleeps = {
        "kind": "reactive",
        "min_replicas": 0,
        "max_replicas": 1,
        "interval": "0.25 s",
        "scale_down_after": "0.5 s",
    }
    played = play([deployment(replicas=0, autoscaler=sleeps)], [asks(1.0), asks(10.0)])
    assert_states(played, 0, ("starting", 1.0), ("up", 2.5), ("starting", 10.0), ("up", 11.5))
    assert states(played)[1][2] == pytest.approx(4.0)
    assert metrics(played)["gpu_hours"] * 3600 == pytest.approx(3.0 + 2.5, abs=SLACK_S)


# ---- updates, and several models on one pool -----------------------------------------------------------------------


def test_a_rolling_update_waits_for_the_batch_then_for_the_start() -> None:
    """Both replicas work until 1.0 s; the first is renewed by 2.5 s, the second, which idles, from then on."""
    played = play(
        [deployment(replicas=2)], [asks(0.0, num=2), asks(3.8)], updates=[{"deployment": "serve", "at": "0.25 s"}],
        failures=[{"kind": "node", "at": ["1 day"]}],
    )  # fmt: skip
    assert_states(played, 0, ("up", 0.0), ("draining", 0.25), ("starting", 1.0), ("up", 2.5))
    assert_states(played, 1, ("up", 0.0), ("starting", 2.5), ("up", 4.0))
    assert played.rows["finish_s"].tolist() == pytest.approx([1.0, 1.0, 4.8])
    found = metrics(played)
    assert found["availability_frac"] == 1.0, "an update is no failure, of replicas that idle either"
    assert found["cold_starts"] == 2
    assert found["gpu_hours"] * 3600 == pytest.approx(2 * 4.8)


def test_one_model_gives_its_accelerators_to_another_and_gets_them_back() -> None:
    """One node, eight ranks a replica, weights in an eighth of a second: a cold start takes 0.625 s."""

    def model(name: str, priority: int, replicas: int) -> dict[str, Any]:
        scaler = {"kind": "reactive", "min_replicas": 0, "max_replicas": 1, "interval": "0.25 s",
                  "scale_down_after": "0.5 s", "priority": priority}  # fmt: skip
        return deployment(name, parallelism={"tp": 8}, autoscaler=scaler, replicas=replicas)

    played = play(
        [model("first", 0, 0), model("second", 1, 1)],
        [asks(0.0, "second"), asks(0.3, "first"), asks(0.5, "second")],
    )
    # At 0.3 s the second is told to leave, and does when its request is done; its next one waits.
    assert_states(played, 0, ("queued", 0.3), ("starting", 1.0), ("up", 1.625))
    assert states(played, 0)[-1][2] == pytest.approx(3.0), "idle from 2.625 s, last seen busy at 2.5 s"
    second = states(played, 1)
    assert [state for state, *_ in second] == ["up", "draining", "queued", "starting", "up"]
    assert second[1][1:] == pytest.approx((0.3, 1.0))
    assert second[3][1:] == pytest.approx((3.0, 3.625), abs=SLACK_S)
    assert played.rows["finish_s"].tolist() == pytest.approx([1.0, 2.625, 4.625], abs=SLACK_S)
    assert (played.rows["status"] == FINISHED).all()


def test_a_planner_lets_go_of_a_replica_that_never_came() -> None:
    """It has one of two slots and waits for the second, which is taken; when it is done another model gets the first."""
    planner = {"kind": "planner", "watch": "queue", "min_replicas": 0, "max_replicas": 2, "interval": "0.25 s",
               "grace_intervals": 0}  # fmt: skip
    sleeps = {"kind": "reactive", "min_replicas": 0, "max_replicas": 1, "interval": "0.25 s"}
    half = {"tp": 4}
    narrow = {"kind": "chunked_prefill", "max_num_seqs": 1}
    played = play(
        [
            deployment("planned", parallelism=half, autoscaler=planner, scheduler=narrow),
            deployment("fixed", parallelism=half),
            deployment("other", parallelism=half, autoscaler=sleeps, replicas=0),
        ],
        [asks(0.0, "planned", num=8), asks(1.0, "other")],
    )
    waited = states(played, 1)
    assert [state for state, *_ in waited] == ["queued"], "there was no room"
    assert (played.rows["status"] == FINISHED).all()
    assert played.rows["scheduled_s"][8] < 12.0


def test_a_draining_replica_goes_when_the_last_it_waits_for_is_given_up() -> None:
    """Its one request loads KV from a store of 1 MB/s when the second update comes; at 105 s it is given up."""
    work = asks(
        0.0, num=4, arrivals={"kind": "deterministic", "rate": "0.01 req/s"}, slo={"ttft": "5 s"},
        lengths={"kind": "fixed", "input": 2000, "answer": 10},
        prefix={"kind": "shared_system_prompt", "num_prompts": 1, "tokens": 1600},
    )  # fmt: skip
    tier = {"where": "remote_store", "capacity": "1 TB", "store": "when_computed"}
    played = play(
        [deployment(kv_tiers=[tier], admission="deadline")], [work], {"remote_store_total": "1 MB/s"},
        updates=[{"deployment": "serve", "at": "50 s"}, {"deployment": "serve", "at": "102 s"}],
    )  # fmt: skip
    assert played.rows["status"].tolist() == [FINISHED, SHED, SHED, SHED]
    assert_states(
        played, 0, ("up", 0.0), ("starting", 50.0), ("up", 51.5), ("draining", 102.0), ("starting", 105.0), ("up", 106.5)
    )  # fmt: skip
