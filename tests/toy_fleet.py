"""Random fleets that are operated: autoscalers, cold starts, drains, failures, retries, updates, on toy replicas."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import toy
import toy_tasks

from clustersim.kinds import kinds
from clustersim.records import CUT_OFF, DRAINING, QUEUED, STARTING, UP
from clustersim.scenario.operability import operation_problems
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.simulation.lifecycle import Lifecycle

PER_NODE = 8
#: Weights of toy models: as much as the channels of a fleet carry in about 10 ms.
WEIGHTS_BYTES = 2e8


def scaler(rng: np.random.Generator, most: int) -> dict[str, Any]:
    """Return an autoscaler that looks every few steps."""
    kinds: dict[str, dict[str, Any]] = {
        "reactive": {"target_requests": float(rng.choice([1, 3, 8]))},
        "queue_depth": {"target_waiting": float(rng.choice([1, 4]))},
        "kv_usage": {"target_kv": float(rng.choice([0.05, 0.5]))},
        "concurrency": {"target_requests": float(rng.choice([2, 6])), "window": "0.2 s", "panic_window": "0.03 s"},
        "planner": {"watch": str(rng.choice(["kv", "queue"])), "up_over": 0.3, "down_below": 0.1, "grace_intervals": 1},
        "predictive": {"replica_rate": "20 req/s", "level": "0.1 s", "trend": "0.3 s", "season": "0.5 s",
                       "season_bin": "0.1 s"},
        "scheduled": {"period": "0.8 s", "times": [{"from": "0 s", "replicas": 1}, {"from": "0.5 s", "replicas": most}]},
    }  # fmt: skip
    kind = str(rng.choice(list(kinds)))
    return {
        "kind": kind, "max_replicas": most, "min_replicas": int(rng.integers(0, 2)), **kinds[kind],
        "interval": f"{rng.choice([0.01, 0.03, 0.1])} s", "scale_down_after": f"{rng.choice([0.0, 0.1])} s",
        "priority": int(rng.integers(0, 3)),
    }  # fmt: skip


def failure(rng: np.random.Generator) -> dict[str, Any]:
    """Return a failure of any kind, at times or at random."""
    kind = str(rng.choice(["node", "node", "accelerator", "accelerator", "link", "site"]))
    when: dict[str, Any] = {"at": [f"{rng.uniform(0, 0.6)} s" for _ in range(rng.integers(1, 4))]}
    if rng.random() < 0.3:
        when = {"mtbf": f"{rng.choice([2, 8])} s"}
    more: dict[str, Any] = {}
    if kind == "link":
        more = {"left_frac": float(rng.choice([0.0, 0.3]))}
    if kind == "site":
        more = {"only_network": bool(rng.random() < 0.5)}
    return {"kind": kind, "repair": f"{rng.choice([0.02, 0.2])} s", **when, **more}


def deployment(rng: np.random.Generator, name: str, **more: Any) -> dict[str, Any]:
    """Return a deployment; some are scaled, some stay as they are."""
    tp = int(rng.choice([1, 2, 4, 8]))
    most = int(rng.integers(1, 5))
    scaled = rng.random() < 0.75
    made: dict[str, Any] = {
        "name": name, "model": "llama-3.1-8b", "on": "pool", "replicas": int(rng.integers(1, most + 1)),
        "parallelism": {"tp": tp}, "serving_engine": toy_tasks.ENGINE,
        "scheduler": {"kind": "chunked_prefill", "max_num_seqs": int(rng.integers(1, 9)),
                      "token_budget": int(rng.choice([16, 100, 10000]))},
        "router": str(rng.choice(["round_robin", "least_outstanding_tokens", "least_outstanding_requests"])),
        "startup": {
            "provision": f"{rng.choice([0.0, 0.01])} s", "warm_up": f"{rng.choice([0.0, 0.02, 0.08])} s",
            "keep_in_host_memory": bool(rng.random() < 0.5),
            "weights_from": str(rng.choice(["remote_store", "local_store", "host_memory"])),
        },
        "retries": {"max_retries": int(rng.choice([0, 1, 3])), "backoff": f"{rng.choice([0.0, 0.01])} s",
                    "resume": str(rng.choice(["restart", "continue"]))},
        **more,
    }  # fmt: skip
    if scaled:
        made["autoscaler"] = scaler(rng, most)
        if rng.random() < 0.3:
            made["replicas"] = 0
    return made


def _policies(rng: np.random.Generator, name: str) -> dict[str, Any]:
    """Return any scheduler, router and tiers of the KV cache."""
    schedulers = [kind for kind in kinds("scheduler") if name == "serve" or kind != "static_batch"]
    routers = ("round_robin", "power_of_two", "kv_aware", "prefix_aware", "session_affine", "slo_aware")
    tiers = [
        {"where": where, "capacity": f"{131072 * 16 * int(rng.choice([4, 200]))} B",
         "store": str(rng.choice(["when_evicted", "when_computed"]))}
        for where in ("host_memory", "remote_store") if rng.random() < 0.4
    ]  # fmt: skip
    return {
        "scheduler": {"kind": str(rng.choice(schedulers)), "max_num_seqs": int(rng.integers(1, 9))},
        "router": str(rng.choice(routers)), "kv_tiers": tiers,
    }  # fmt: skip


def draw(seed: int, shape: str) -> Scenario:
    """Return a fleet of a shape (one, two, pair, tasks, tasks_pair; mixed: all other policies, too) without problems."""
    for attempt in range(100):
        scenario = _draw(np.random.default_rng([seed, attempt]), shape)
        if not list(operation_problems(scenario)) and _fits(scenario):
            return scenario
    raise AssertionError("no fleet fits")


def _fits(scenario: Scenario) -> bool:
    taken = sum(each.replicas * each.parallelism.num_accelerators for each in scenario.deployments)
    return taken <= scenario.fleet[0].clusters[0].num_accelerators


def _draw(rng: np.random.Generator, shape: str) -> Scenario:
    paired, tasks, mixed = shape.endswith("pair"), "tasks" in shape, shape.startswith("mixed")
    names = ["prefill", "serve"] if paired else ["serve", "other"] if shape == "two" else ["serve"]
    deployments = [deployment(rng, name) for name in names]
    contend = shape == "two" and bool(rng.random() < 0.7)
    if contend:  # one node with room for two replicas, whom the first deployment takes from the second
        for priority, each in enumerate(deployments):
            each |= {"parallelism": {"tp": 4}, "replicas": priority}
            each["autoscaler"] = {**scaler(rng, 2), "min_replicas": 0, "priority": priority}
    if paired:
        when = str(rng.choice(["layer_by_layer", "at_the_end"]))
        deployments[1] |= {"prefill_by": "prefill", "kv_transfer": {"when": when}}
    workloads = [_workload(rng, name, tasks) for name in names if not (paired and name == "prefill")]
    if mixed:
        deployments = [each | _policies(rng, each["name"]) for each in deployments]
        admission = rng.choice(["accept_all", "queue_limit", "slo_aware", "deadline"])
        if not (paired and admission == "deadline"):
            limit = {"max_outstanding": 6} if admission == "queue_limit" else {}
            deployments[-1]["admission"] = {"kind": str(admission), **limit}
        workloads[0]["slo"] = {"ttft": f"{rng.choice([0.02, 0.2])} s"}
        if not tasks:
            workloads[0]["prefix"] = {"kind": "shared_system_prompt", "num_prompts": 3, "tokens": 70}
    updates = [{"deployment": str(rng.choice(names)), "at": f"{rng.uniform(0, 0.4)} s",
                "max_unavailable": int(rng.integers(1, 3))} for _ in range(rng.integers(0, 2))]  # fmt: skip
    data = {
        "name": "toy", "warm_up": "none", "seed": int(rng.integers(1 << 30)), "horizon": "2 s",
        "fleet": [{"site": "us-iowa", "clusters": [
            {"name": "pool", "node": "hgx-h100", "count": 1 if contend else int(rng.integers(1, 4))}]}],
        "deployments": deployments, "workloads": workloads, "updates": updates,
        "failures": [failure(rng) for _ in range(rng.integers(0, 3))],
    }  # fmt: skip
    return Scenario.model_validate(data)


def _workload(rng: np.random.Generator, to: str, tasks: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": f"asks-{to}", "to": to, "num_requests": int(rng.integers(5, 15 if tasks else 40)),
        "lengths": {"kind": "independent", "input": {"kind": "uniform", "low": 1, "high": int(rng.choice([40, 300]))},
                    "thinking": {"kind": "uniform", "low": 0, "high": 20},
                    "answer": {"kind": "uniform", "low": 1, "high": int(rng.choice([5, 60]))}},
        "arrivals": {"kind": "gamma", "rate": f"{rng.choice([30, 100])} req/s", "cv": 2.0}
        if rng.random() < 0.7 else {"kind": "closed_loop", "concurrency": 4, "think_time": "3 ms"},
    }  # fmt: skip
    if tasks:
        kind = str(
            rng.choice(["best_of_n", "vote", "hedge", "conversation", "agent", "tree_search", "revise"])
        )
        text = str(strategy := toy_tasks.draw_strategy(rng, kind, 0))
        plain = "small" in text or "check" in text
        made["tasks"] = {"strategy": {"kind": "vote", "n": 3} if plain else strategy, "accuracy": 0.3}
    return made


def mix(seed: int, shape: str) -> toy_tasks.Mix:
    """Return a fleet with step times and memories that are made up."""
    scenario = draw(seed, shape)
    rng = np.random.default_rng([seed, 7])
    blocks = [int(28 * rng.choice([1, 2, 50])) for _ in scenario.deployments]
    steps = toy.Steps(*rng.uniform(500, 2000, 2), tuple(rng.uniform(0, 3, 4)), *rng.uniform(0, 30, 2))
    return toy_tasks.Mix(scenario, 16, blocks, steps, exact=False)


class Auditor:
    """Watches what is true at every change of a replica's state."""

    def __init__(self) -> None:
        self.deaths = self.deaths_while_starting = self.reclaimed = self.reused = self.renewed = 0

    def play(self, mix: toy_tasks.Mix, mode: str = "runs") -> toy_tasks.Played:
        """Run a mix, looking on."""
        die, reclaim, placed, set_state = Lifecycle.die, Lifecycle.reclaim, Lifecycle.placed, Lifecycle._set
        auditor = self

        def died(life: Lifecycle, index: int, now: float) -> None:
            auditor.deaths += 1
            auditor.deaths_while_starting += life.states[index] == STARTING
            die(life, index, now)
            kv = life.front.replicas[index].kv
            assert (kv.used, kv.idle, kv.num_decoding) == (0, 0, 0), "KV of a dead replica"
            assert not life.front.loads[index].requests

        def reclaimed(life: Lifecycle, now: float) -> None:
            auditor.reclaimed += 1
            reclaim(life, now)

        def was_placed(life: Lifecycle, index: int, now: float) -> None:
            auditor.renewed += life.states[index] == DRAINING
            auditor.reused += life._copies(index) <= life.world.in_host_memory
            placed(life, index, now)

        def was_set(life: Lifecycle, index: int, state: int, now: float) -> None:
            set_state(life, index, state, now)
            auditor.look(life)

        patches = {"die": died, "reclaim": reclaimed, "placed": was_placed, "_set": was_set}
        with (
            mock.patch.multiple(Lifecycle, **patches),
            mock.patch.object(DeploymentPlan, "weights_bytes", WEIGHTS_BYTES),
        ):
            return toy_tasks.play(mix, mode)

    @staticmethod
    def look(life: Lifecycle) -> None:
        """Every accelerator has one owner at most, and is there."""
        world = life.world
        held = [(place.cluster, share.node, each) for place in world.places.values()
                for share in place.shares for each in share.accelerators]  # fmt: skip
        assert len(held) == len(set(held))
        for name, vacancies in world.vacancies.items():
            free = {(name, node, each) for node, free in enumerate(vacancies.free) for each in free}
            assert not free & set(held)
            assert len(held) + len(free) <= len(vacancies.free) * vacancies.per_node
        for each in world.lifecycles:
            for index, state in enumerate(each.states):
                if not (state == UP and not each.cut_off):
                    assert not each.front.loads[index].up


def spans_of(played: toy_tasks.Played) -> dict[str, np.ndarray]:
    """Return the spans of a world, those still open ended with it."""
    spans = played.world.spans
    columns = {name: spans.column(name).copy() for name in (*spans.FLOATS, *spans.INTS)}
    columns["end_s"] = np.where(np.isnan(columns["end_s"]), played.world.env.now, columns["end_s"])
    return columns


STATES = (QUEUED, STARTING, UP, DRAINING, CUT_OFF)
