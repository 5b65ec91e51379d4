"""Random mixes of tasks, tight in everything, played on toy replicas; and an auditor that counts what really happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import toy

from clustersim.kinds import kinds
from clustersim.quality.success import Success
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.serving.kv_cache import KvCache
from clustersim.serving.replica import Replica
from clustersim.simulation.client import Client
from clustersim.simulation.world import World

TICK_S = toy.TICK_S
KINDS = tuple(kinds("strategy"))
_LEAVES = ("direct", "chain_of_thought", "budget_forcing", "adaptive")


@dataclass(frozen=True)
class ToyPlan(DeploymentPlan):
    """A deployment whose step times and memory are made up."""

    steps: Any = field(default_factory=toy.Steps)
    block_size: int = 16
    num_blocks: int = 1_000_000
    adapter_load_s: float = 3000 * toy.TICK_S

    @property
    def memory(self) -> Any:
        """See DeploymentPlan."""
        engine = SimpleNamespace(block_size=self.block_size)
        tokens = self.num_blocks * self.block_size
        return SimpleNamespace(engine=engine, num_blocks=self.num_blocks, tokens_per_rank=tokens)

    @property
    def step_time(self) -> Any:
        """See DeploymentPlan."""
        return self.steps

    def ability(self, workload: Any) -> Any:
        """See DeploymentPlan: the accuracy given."""
        given = workload.tasks.accuracy
        return given and SimpleNamespace(success=success(given))


def success(accuracy: float) -> Success:
    """Return chances at an accuracy, with the quality model's default numbers."""
    return Success(accuracy, logit_per_decade=0.9, saturation=4.5, heterogeneity=1.2)


class CountingKv(KvCache):
    """A cache that counts the blocks which it evicts."""

    def __init__(self, block_size: int, num_blocks: int) -> None:
        super().__init__(block_size, num_blocks)
        self.evicted = 0

    def evict(self) -> None:
        """See KvCache."""
        before = self.idle
        super().evict()
        self.evicted += before - self.idle


@dataclass
class Audit:
    """A scheduler that hands on to another, and counts what a replica does: tokens made and prefilled by request."""

    replica: Replica
    inner: Any
    made: Counter[int] = field(default_factory=Counter)
    prefilled: Counter[int] = field(default_factory=Counter)
    stays: dict[int, list[int]] = field(default_factory=dict)
    """Request -> tokens in cache when it was last admitted, and tokens prefilled since."""
    cancelled_s: dict[int, float] = field(default_factory=dict)
    blocked: int = 0

    def __post_init__(self) -> None:
        cancel = self.replica.cancel

        def note(request: int, now: float) -> None:
            self.cancelled_s[request] = now
            cancel(request, now)

        self.replica.cancel = note
        self.replica.scheduler = self
        kv = self.replica.kv
        self.replica.kv = self.replica.sharing.kv = CountingKv(kv.block_size, kv.num_blocks)
        self.replica.kv.below = kv.below

    def plan(self, replica: Replica) -> list[tuple[int, int]]:
        """See Scheduler."""
        before = set(replica.computed)
        chunks = self.inner.plan(replica)
        kv = replica.kv
        assert kv.used >= 0
        assert kv.idle >= 0
        assert kv.used + kv.idle <= kv.num_blocks
        for request, tokens in chunks:
            self.prefilled[request] += tokens
            if request not in before:
                self.stays[request] = [replica.computed[request] - tokens, 0]
            self.stays[request][1] += tokens
            if replica.computed[request] == replica.prefill_length(request):
                self.made[request] += 1
        for request in () if replica.stalled else replica._offsets:
            self.made[request] += 1  # right only where every step is planned: in stepwise mode
        now = replica._now
        for request in (*replica._offsets, *replica.computed):
            assert self.cancelled_s.get(request, now) >= now * (1 - 1e-9), (
                "it makes tokens after its cancellation"
            )
        self.blocked += bool(replica.waiting)
        return chunks

    def victim(self, replica: Replica) -> int:
        """See Scheduler."""
        return self.inner.victim(replica)

    def open_to_arrivals(self, replica: Replica) -> bool:
        """See Scheduler."""
        return self.inner.open_to_arrivals(replica)

    @property
    def evicted(self) -> int:
        """Blocks of idle prefixes that gave way to sequences."""
        return self.replica.kv.evicted


@dataclass(frozen=True)
class Mix:
    """A scenario, and what its deployments have of memory and speed."""

    scenario: Scenario
    block_size: int = 16
    num_blocks: Sequence[int] = (1_000_000,)
    steps: Any = field(default_factory=toy.Steps)
    exact: bool = True
    """Whether all times are whole ticks, so that they add up without rounding."""


@dataclass(frozen=True)
class Played:
    """A world that has ended. rows, tasks, runs: its records as columns."""

    world: World
    audits: list[Audit]
    rows: dict[str, np.ndarray]
    tasks: dict[str, np.ndarray]
    runs: dict[str, np.ndarray]

    @property
    def replicas(self) -> list[Replica]:
        """All replicas of all deployments."""
        return [replica for front in self.world.fronts for replica in front.replicas]

    @property
    def output(self) -> np.ndarray:
        """Output tokens of each request."""
        return self.rows["thinking_tokens"] + self.rows["answer_tokens"]


def play(mix: Mix, mode: str = "runs", seed: int = 0) -> Played:
    """Run a mix to its last event."""
    scenario = mix.scenario.model_copy(
        update={"engine": mix.scenario.engine.model_copy(update={"mode": mode})}
    )
    plans = [
        ToyPlan(each.index, each.deployment, each.cluster, each.site, mix.steps, mix.block_size, blocks)
        for each, blocks in zip(_plans(scenario), mix.num_blocks, strict=True)
    ]
    world = World(scenario, seed, plans, None)
    audits = [Audit(replica, replica.scheduler) for front in world.fronts for replica in front.replicas]
    sleep = Client.sleep

    def whole(client: Client, seconds: float) -> Any:
        return sleep(client, round(seconds / TICK_S) * TICK_S)

    with mock.patch.object(Client, "sleep", whole if mix.exact else sleep):
        world.run()
    return Played(
        world, audits,
        *({name: each.column(name) for name in (*each.FLOATS, *each.INTS)} for each in (world.records, world.tasks)),
        world.runs.columns(),
    )  # fmt: skip


def _plans(scenario: Scenario) -> list[DeploymentPlan]:
    cluster, site = scenario.fleet[0].clusters[0], scenario.fleet[0].site
    return [DeploymentPlan(i, deployment, cluster, site) for i, deployment in enumerate(scenario.deployments)]


def tasks_scenario(
    strategy: Any, lengths: Sequence[int] = (64, 32, 8), num: int = 1, **changes: Any
) -> Scenario:
    """Return tasks of fixed lengths (input, thinking, answer) that all come at once to one toy deployment."""
    names = ("input", "thinking", "answer")
    return toy.scenario(
        deployment={"serving_engine": ENGINE, **changes.pop("deployment", {})},
        workload={
            "arrivals": {"kind": "all_at_once"},
            "lengths": {"kind": "fixed", **dict(zip(names, lengths, strict=True))},
            "tasks": {"strategy": strategy, "accuracy": 0.3, "spread": 0, **changes.pop("tasks", {})},
            "num_requests": num,
            **changes.pop("workload", {}),
        },
        **changes,
    )


#: The frontend takes whole ticks.
ENGINE = {"name": "toy", "step_overhead": "1 ms", "sequence_overhead": "0 s", "overlapped": False,
          "frontend": f"{2.0**-9} s", "memory_frac": 0.9, "reserved": "1 GB"}  # fmt: skip


def draw_strategy(rng: np.random.Generator, kind: str | None = None, depth: int = 2) -> dict[str, Any]:
    """Return settings of a strategy, of a given kind or any, made of others down to a depth."""
    some = _LEAVES if depth <= 0 or rng.random() < 0.2 else KINDS
    kind = kind or str(rng.choice(some))

    def inner() -> dict[str, Any]:
        return draw_strategy(rng, depth=int(rng.integers(-1, depth)))

    def number(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    def share() -> float:
        return float(rng.choice([0.0, 0.3, 0.8, 1.0]))

    def verifier() -> dict[str, Any]:
        latency = f"{number(0, 1) * 3 * 2.0**-9} s"
        settings = {"true_accept": share(), "false_accept": share(), "latency": latency}
        if rng.random() < 0.5:
            settings |= {"to": "check", "reads": str(rng.choice(["answer", "output"])),
                         "thinking_tokens": number(0, 8), "verdict_tokens": number(1, 3)}  # fmt: skip
        return settings

    def tiers() -> dict[str, Any]:
        to = {"cheap_to": "small"} if rng.random() < 0.5 else {"strong_to": "small"}
        return {"cheap": inner(), "strong": inner(), **to}

    settings: dict[str, Any] = {
        "direct": dict,
        "chain_of_thought": lambda: {"scale": float(rng.choice([0.05, 1, 2]))},
        "budget_forcing": lambda: {"min_thinking": number(0, 9), "max_thinking": number(9, 40)},
        "adaptive": lambda: {"target": 0.5, "max_scale": 2.0},
        "agent": lambda: {"mean_turns": 3, "max_turns": number(1, 6), "call_tokens": number(1, 9), "tool_failure": 0.3,
                          "tool_latency": f"{number(0, 1) * 0.01} s", "result_tokens": number(0, 40)},
        "conversation": lambda: {
            "turns": {"kind": "uniform", "low": 1, "high": 4}, "new": number(1, 30), "answer": number(1, 9),
            "thinking": {"kind": "uniform", "low": 0, "high": 9}, "think_time": f"{number(0, 2) * 2.0**-6} s",
            **({"tools": {"calls": {"kind": "uniform", "low": 0, "high": 2}, "call_tokens": number(1, 5),
                          "time": f"{number(0, 1) * 3 * 2.0**-9} s", "result": number(0, 9)}}
               if rng.random() < 0.5 else {}),
        },
        "best_of_n": lambda: {"n": number(1, 5), "verifier": verifier(), "sample": inner(),
                              "wait_for_all": bool(rng.random() < 0.3)},
        "vote": lambda: {"n": number(1, 5), "sample": inner(), "early_stop": bool(rng.random() < 0.7)},
        "cascade": lambda: {"verifier": verifier(), **tiers()},
        "route": lambda: {"hard_share": 0.5, **tiers()},
        "hedge": lambda: {"after": f"{number(0, 20) * 2.0**-9} s", "attempt": inner()},
        "debate": lambda: {"agents": number(2, 3), "rounds": number(1, 3), "rebuttal_tokens": number(0, 9)},
        "parallel_thinking": lambda: {"n": number(1, 3), "way": inner(), "summary_tokens": number(1, 9),
                                      "synthesis_thinking": number(0, 9)},
        "revise": lambda: {"rounds": number(1, 3), "critique_tokens": number(0, 9), "first": inner(), "detects": 0.8},
        "tree_search": lambda: {"depth": number(1, 3), "width": number(1, 3), "branching": number(1, 3),
                                "verifier": verifier()},
    }[kind]()  # fmt: skip
    return {"kind": kind, **settings}


def draw_scheduler(rng: np.random.Generator) -> dict[str, Any]:
    """Return settings of a scheduler of any kind, tight in slots and in tokens a step."""
    kind = "chunked_prefill" if rng.random() < 0.3 else str(rng.choice(list(kinds("scheduler"))))
    settings: dict[str, Any] = {"kind": kind, "max_num_seqs": int(rng.integers(1, 17))}
    budget = int(rng.choice([2, 16, 100, 10000]))
    return settings if kind == "static_batch" else settings | {"token_budget": budget}


def draw_admission(rng: np.random.Generator) -> dict[str, Any]:
    """Return settings of an admission policy of any kind."""
    kind = str(rng.choice(list(kinds("admission"))))
    settings: dict[str, Any] = {"kind": kind, "retry_after": f"{int(rng.integers(1, 9)) * 2.0**-8} s"}
    if rng.random() < 0.5:
        settings["exempt_priority"] = int(rng.integers(3))
    own = {"queue_limit": {"max_outstanding": int(rng.integers(1, 7))},
           "slo_aware": {"margin": 2.0, "give_up_late": bool(rng.random() < 0.5)}}  # fmt: skip
    return settings | own.get(kind, {})


def draw_mix(rng: np.random.Generator, kind: str | None = None) -> Mix:
    """Return a mix that is tight in everything: tasks, plain requests beside them, three deployments.

    `serve` has the tasks, `small` cheap or strong answers, `check` verifiers.
    """
    block_size = int(rng.choice([1, 4, 16]))
    longest = int(rng.choice([70, 130, 250]))
    blocks = [max(2, int(-(-longest // block_size) * rng.choice([1, 1.3, 2, 20]))) for _ in range(3)]
    forks = str(rng.choice(["together", "spread"]))
    adapters = int(rng.choice([0, 0, 4]))
    high = int(rng.choice([5, 40, 40]))
    deployments = [
        {"name": name, "model": "llama-3.1-8b", "on": "pool", "max_model_len": longest, "serving_engine": ENGINE,
         "router": str(rng.choice(list(kinds("router")))), "replicas": int(rng.choice([1, 1, 2, 3])),
         "parallelism": {"attention_dp": int(rng.integers(1, 3))},
         "scheduler": draw_scheduler(rng), "admission": draw_admission(rng) if rng.random() < 0.5 else "accept_all",
         **({"lora": {"max_loras": int(rng.integers(1, 4))}} if adapters else {})}
        for name in ("serve", "small", "check")
    ]  # fmt: skip
    lengths = {
        "kind": "independent",
        "input": {"kind": "uniform", "low": 1, "high": int(rng.choice([5, 50, 50]))},
        "thinking": {"kind": "uniform", "low": 0, "high": high},
        "answer": {"kind": "uniform", "low": 1, "high": int(rng.choice([2, 20, 20]))},
    }
    users = {"kind": "closed_loop", "concurrency": 3, "think_time": f"{int(rng.integers(2)) * 2.0**-6} s"}
    arrivals = [
        {"kind": "all_at_once"},
        {"kind": "deterministic", "rate": f"{2 ** int(rng.integers(4, 9))} req/s"},
        users,
    ]
    tenants = [
        {
            "name": str(number),
            "weight": 1,
            "priority": int(rng.integers(3)),
            "slo": {"ttft": f"{int(rng.choice([2, 8, 100])) * 2.0**-9} s"},
        }
        for number in range(3)
    ]
    prefix = {"kind": "shared_system_prompt", "num_prompts": 2, "tokens": int(rng.choice([1, 7, 30]))}
    common = {"lengths": lengths, "to": "serve", "tenants": tenants}
    if adapters:
        common["adapters"] = {"num_adapters": adapters, "base_share": 0.2}
    if rng.random() < 0.3:
        common["prefix"] = prefix
    workloads = [
        {"name": "asks", "arrivals": arrivals[rng.integers(3)], "num_requests": int(rng.integers(1, 16)), **common,
         "tasks": {"strategy": draw_strategy(rng, kind), "accuracy": 0.4, "forks": forks}},
        {"name": "plain", "arrivals": arrivals[rng.integers(1, 3)], "num_requests": int(rng.integers(1, 16)), **common},
    ]  # fmt: skip
    scenario = toy.scenario(deployments=deployments, workloads=workloads[: 1 + int(rng.random() < 0.5)])
    return Mix(scenario, block_size, blocks)
