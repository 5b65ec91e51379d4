"""Random fleets that serve by every mechanism there is, in any combination, on toy replicas.

Every kind of every family of policies is drawn as soon as it is registered, with the settings of one of its examples;
times in these are scaled to those of the toys. No two times are made equal: replicas of one deployment differ in speed.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import toy
import toy_tasks
from toy_parts import failure, part, scaler, seconds

from clustersim.cost.curve import Curve
from clustersim.kinds import Part
from clustersim.models.layout import Parallelism
from clustersim.scenario.adapters import adapter_problems
from clustersim.scenario.admission import admission_problems
from clustersim.scenario.operability import operation_problems
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.scenario.targets import target_problems
from clustersim.scenario.tiers import ORDER, tier_problems
from clustersim.serving.contracts import StepTimes

#: Weights of toy models: as much as the channels of a fleet carry in about 10 ms.
WEIGHTS_BYTES = 2e8
#: KV of a token of the model that all deployments serve.
KV_BYTES = 131072
PER_NODE = 8
_FOLDER = Path(tempfile.mkdtemp(prefix="clustersim-toy-traces-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)

# ---- the fleet -------------------------------------------------------------------------------------------------------


def _deployment(
    rng: np.random.Generator, name: str, *, operated: bool, shape: dict[str, Any]
) -> dict[str, Any]:
    """Return a deployment; some are scaled, some stay as they are."""
    most = int(rng.integers(1, 5))
    made: dict[str, Any] = {
        "name": name, "model": "llama-3.1-8b", "on": str(rng.choice(shape["clusters"])),
        "replicas": int(rng.integers(1, most + 1)), "max_model_len": shape["longest"],
        "parallelism": {"tp": int(rng.choice([1, 2, 4, 8])), "attention_dp": int(rng.choice([1, 1, 2])),
                        "pp": int(rng.choice([1, 1, 2]))},
        "serving_engine": {**toy_tasks.ENGINE, "frontend": seconds(rng, 0.0003, 0.01)},
        "scheduler": part(rng, "scheduler", max_num_seqs=int(rng.integers(1, 9)),
                          token_budget=int(rng.choice([3, 16, 100, 10000]))),
        "router": part(rng, "router"),
        "startup": {"provision": seconds(rng, 0.0005, 0.02), "warm_up": seconds(rng, 0.0005, 0.03),
                    "keep_in_host_memory": bool(rng.random() < 0.5),
                    "weights_from": str(rng.choice(["remote_store", "local_store", "host_memory"]))},
        "retries": {"max_retries": int(rng.choice([0, 1, 3])), "backoff": seconds(rng, 0.0003, 0.02),
                    "resume": str(rng.choice(["restart", "continue"]))},
        "prefix_caching": bool(shape["reuse"] or rng.random() < 0.7),
        "lora": shape["lora"],
    }  # fmt: skip
    if rng.random() < 0.3:
        made["speculation"] = part(rng, "speculation")
    if rng.random() < 0.5:
        made["admission"] = part(rng, "admission", float(rng.uniform(0.005, 0.05)),
                                 max_outstanding=int(rng.choice([2, 8])))  # fmt: skip
    if made["prefix_caching"] and rng.random() < shape["tiers"]:
        made["kv_tiers"] = _tiers(rng, shape["store"])
    if operated and rng.random() < 0.6:
        made["autoscaler"] = scaler(rng, most)
        if rng.random() < 0.25:
            made["replicas"] = 0
    if shape["crowded"]:
        made |= {"parallelism": {"tp": 4}, "replicas": 1, "on": "pool", "autoscaler": scaler(rng, 2)}
    return made


def _tiers(rng: np.random.Generator, store: int) -> list[dict[str, Any]]:
    """Return tiers of few tokens; the remote store has `store`, for all deployments that share it."""
    return [
        {"where": where,
         "capacity": f"{(store if where == 'remote_store' else int(rng.choice([30, 100, 1000]))) * KV_BYTES} B",
         "store": str(rng.choice(["when_evicted", "when_evicted", "when_computed"])),
         "load": str(rng.choice(["always", "always", "when_faster"]))}
        for where in ORDER if rng.random() < 0.7
    ]  # fmt: skip


def _workload(rng: np.random.Generator, name: str, to: Any, shape: dict[str, Any]) -> dict[str, Any]:
    count = int(rng.integers(10, 41))
    longest = shape["longest"] * float(rng.choice([0.1, 0.1] if shape["reuse"] else [0.1, 0.5, 0.8]))
    made: dict[str, Any] = {
        "name": name, "to": to, "num_requests": count,
        "lengths": {"kind": "independent", "input": {"kind": "uniform", "low": 1, "high": int(longest)},
                    "thinking": {"kind": "uniform", "low": 0, "high": 20},
                    "answer": {"kind": "uniform", "low": 1, "high": int(rng.choice([5, 40]))}},
        "slo": {"ttft": seconds(rng, 0.005, 0.3)},
    }  # fmt: skip
    if isinstance(to, list):
        made["gateway"] = part(rng, "router")
    if rng.random() < 0.3:
        made["arrivals"] = {"kind": "closed_loop", "concurrency": int(rng.integers(2, 9)),
                            "think_time": seconds(rng, 0.0005, 0.02)}  # fmt: skip
    else:
        made["arrivals"] = {"kind": "gamma", "rate": f"{rng.choice([30, 100, 400])} req/s", "cv": 2.0}
    if rng.random() < 0.5:
        made["tenants"] = [{"name": f"t{number}", "weight": 1.0 + number, "priority": int(rng.integers(-1, 3)),
                            "slo": {"ttft": seconds(rng, 0.005, 0.3)}} for number in range(rng.integers(1, 4))]  # fmt: skip
    if shape["lora"] is not None and rng.random() < 0.8:
        made["adapters"] = {
            "num_adapters": int(rng.integers(2, 7)),
            "base_share": float(rng.choice([0.0, 0.4])),
        }
    if shape["reuse"] or rng.random() < 0.6:
        if rng.random() < 0.4 and "tenants" not in made:
            size = int(rng.choice([4, 16, 50]))
            made["trace"] = {"path": _trace(rng, count, size), "format": "mooncake", "block_tokens": size}
            made["lengths"] = {
                "kind": "trace",
                "thinking_share": {"kind": "uniform", "low": 0.0, "high": 0.9},
            }
            if "concurrency" not in made["arrivals"] and rng.random() < 0.4:
                del made["arrivals"]  # they come as in the trace
        else:
            made["prefix"] = part(rng, "prefix", num_prompts=int(rng.integers(3, 11)))
    if rng.random() < shape["tasks"]:
        made["num_requests"] = int(rng.integers(3, 13))
        cancelling = ("best_of_n", "vote", "hedge")
        kind = str(rng.choice(cancelling if rng.random() < 0.3 else toy_tasks.KINDS))
        made["tasks"] = {"strategy": toy_tasks.draw_strategy(rng, kind, int(rng.integers(0, 2))), "accuracy": 0.4,
                         "forks": str(rng.choice(["together", "spread"]))}  # fmt: skip
    return made


def _trace(rng: np.random.Generator, count: int, size: int) -> str:
    """Write a trace whose inputs are paths in a tree of hashed blocks of `size` tokens, and return its path."""
    numbers: dict[tuple[int, ...], int] = {}
    path = _FOLDER / f"{rng.integers(2**62)}.jsonl"
    with path.open("w") as file:
        at = 0.0
        for _ in range(count):
            way = tuple(
                int(each) for each in rng.integers(0, 2, int(rng.integers(0, 12))) * (rng.random() < 0.5)
            )
            ids = [numbers.setdefault(way[: depth + 1], len(numbers)) for depth in range(len(way))]
            at += float(rng.exponential(10.0))
            tokens = max(1, size * len(ids) - int(rng.integers(size)))
            row = {
                "timestamp": at,
                "input_length": tokens,
                "output_length": int(rng.integers(1, 40)),
                "hash_ids": ids,
            }
            print(json.dumps(row), file=file)
    return str(path)


def _draw(rng: np.random.Generator) -> dict[str, Any]:
    operated, paired, several = rng.random() < 0.8, rng.random() < 0.5, rng.random() < 0.5
    reuse = rng.random() < 0.5  # of what was computed, by many requests in little room
    crowded = operated and several and rng.random() < 0.35  # more is wanted than there is
    clusters = ["pool", "far"][: 1 + int(rng.random() < 0.35)]
    shape = {
        "clusters": clusters, "reuse": reuse, "crowded": crowded, "longest": int(rng.choice([130, 250, 400])),
        "tasks": float(rng.choice([0, 0.3, 0.3 if reuse else 1])),
        "tiers": 0.9 if reuse else 0.2, "store": int(rng.choice([30, 100, 1000])),
        "lora": {"max_loras": int(rng.integers(1, 4)), "rank": 8} if rng.random() < 0.5 else None,
    }  # fmt: skip
    names = ["serve", "other"][: 1 + several]
    to: list[Any] = [["serve", "other"]] if several and rng.random() < 0.7 else list(names)
    workloads = [_workload(rng, f"asks{number}", each, shape) for number, each in enumerate(to)]
    made = [_deployment(rng, name, operated=operated, shape=shape) for name in names]
    text = str(workloads)
    made += [
        _deployment(rng, name, operated=False, shape=shape)
        for name in ("small", "check")
        if f"'{name}'" in text
    ]
    if paired:
        made.append(_deployment(rng, "prefill", operated=operated, shape=shape))
        made[-1].pop("admission", None)
        for each in made[: 1 + int(rng.random() < 0.5 and several)]:
            each.pop("kv_tiers", None)  # they belong to the one that prefills
            if "admission" in each and each["admission"].patience_s(1.0) < inf:
                del each["admission"]  # nobody can be given up there
            each |= {"prefill_by": "prefill",
                     "kv_transfer": {"when": str(rng.choice(["layer_by_layer", "at_the_end"]))}}  # fmt: skip
    network = part(rng, "network")
    if rng.random() < 0.5:  # that carries KV for as long as some steps take
        network = {"kind": "rail_optimised", "nic": "8 Gb/s"}
    store = {"remote_store_total": "3 GB/s"} if rng.random() < 0.6 else {}
    data: dict[str, Any] = {
        "name": "toy", "warm_up": "none", "seed": int(rng.integers(1 << 30)), "horizon": "2 s",
        "deployments": made, "workloads": workloads,
        "fleet": [
            {"site": site, "clusters": [
                {"name": name, "node": "hgx-h100", "count": 1 if crowded else _nodes(rng, made, name),
                 "network": network, **store}]}
            for site, name in zip(("us-iowa", "ca-quebec"), clusters, strict=False)],
    }  # fmt: skip
    if len(clusters) == 2 and rng.random() < 0.5:
        for each in workloads:
            if "gateway" in each and "tasks" not in each:
                each["gateway_site"] = "us-iowa"
    if operated:
        data["failures"] = [failure(rng) for _ in range(rng.integers(0, 5))]
        data["updates"] = [{"deployment": str(rng.choice([each["name"] for each in made])),
                            "at": seconds(rng, 0.005, 0.4), "max_unavailable": int(rng.integers(1, 3))}
                           for _ in range(rng.integers(0, 2))]  # fmt: skip
    return data


def _nodes(rng: np.random.Generator, deployments: list[dict[str, Any]], cluster: str) -> int:
    """Return nodes for all replicas that there are at first, and for all of any one deployment; at times one more."""
    least, most = 0, 1
    for each in deployments:
        if each["on"] == cluster:
            size = Parallelism(**each["parallelism"]).num_accelerators
            least += max(1, each["replicas"]) * size
            scaler = each.get("autoscaler")
            if scaler is not None:
                least += max(0, scaler.floor - max(1, each["replicas"])) * size
                most = max(most, scaler.max_replicas * size)
    return -(-max(least, most) // PER_NODE) + int(rng.choice([0, 0, 1]))


def _problems(scenario: Scenario, plans: list[Plan]) -> Iterator[Any]:
    """Yield what a plan would say of a scenario, but for its models and memories."""
    taken = {cluster.name: cluster.num_accelerators for fleet in scenario.fleet for cluster in fleet.clusters}
    for each in scenario.deployments:
        taken[each.on] -= each.replicas * each.parallelism.num_accelerators
        if taken[each.on] < 0:
            yield each.name
    yield from operation_problems(scenario)
    yield from adapter_problems(scenario)
    yield from admission_problems(scenario)
    yield from target_problems(scenario)
    yield from tier_problems(plans)


# ---- what it all runs on ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan(toy_tasks.ToyPlan):
    """A deployment with step times, memory and weights that are made up."""

    @property
    def weights_bytes(self) -> float:
        """See DeploymentPlan."""
        return WEIGHTS_BYTES


@dataclass(frozen=True)
class Paced:
    """Step times of a replica that is a little slower than another."""

    steps: StepTimes
    pace: float
    curves: dict[int, Curve] = field(default_factory=dict, compare=False)

    def decode(self, batch: int) -> Curve:
        """See StepTimes."""
        if batch not in self.curves:
            curve = self.steps.decode(batch)
            self.curves[batch] = Curve(curve.xs, [self.pace * value for value in curve.values])
        return self.curves[batch]

    def mixed(self, *shape: int) -> float:
        """See StepTimes."""
        return self.pace * self.steps.mixed(*shape)


@cache
def _real_steps(speculation: Part) -> StepTimes:
    """Return the step times of a real model that speculates, as the cost model has them."""
    scenario = toy.scenario(deployment={"speculation": speculation, "max_model_len": 4096})
    fleet = scenario.fleet[0]
    return DeploymentPlan(0, scenario.deployments[0], fleet.clusters[0], fleet.site).step_time


@dataclass(frozen=True)
class Draw:
    """A scenario, what its deployments run on, and how fast each of their replicas is."""

    scenario: Scenario
    plans: list[Plan]
    steps: list[list[Paced]]


def draw(seed: int) -> Draw:
    """Return a fleet whose plan has no problem."""
    for attempt in range(200):
        rng = np.random.default_rng([seed, attempt])
        scenario = Scenario.model_validate(_draw(rng))
        plans = _plans(rng, scenario)
        if not any(True for _ in _problems(scenario, plans)):
            steps = [
                [Paced(each.steps, float(rng.uniform(1, 1.2))) for _ in range(each.max_replicas)]
                for each in plans
            ]
            return Draw(scenario, plans, steps)
    raise AssertionError("no fleet without a problem")


def _plans(rng: np.random.Generator, scenario: Scenario) -> list[Plan]:
    clusters = {cluster.name: (cluster, fleet.site) for fleet in scenario.fleet for cluster in fleet.clusters}
    size = int(rng.choice([1, 4, 16]))
    plans = []
    for index, each in enumerate(scenario.deployments):
        steps: StepTimes = toy.Steps(
            float(rng.uniform(500, 2000)), float(rng.uniform(1, 500)), tuple(rng.uniform(0, 3, 4)),
            float(rng.uniform(0, 30)), float(rng.uniform(0, 0.1)))  # fmt: skip
        if each.speculation is not None:
            steps = _real_steps(each.speculation)
        own = size if rng.random() < 0.8 else int(rng.choice([1, 4, 16]))
        least = -(-(each.max_model_len or 0) // own)
        blocks = max(2, int(least * rng.choice([0.9, 1, 1.3, 1.3, 2, 20])))
        plans.append(Plan(index, each, *clusters[each.on], steps, own, blocks))
    return plans
