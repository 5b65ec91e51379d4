"""Toys that the law tests play with: a made-up device, replicas of it behind a router, and small scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from simpy import Event

from clustersim.clock import Clock
from clustersim.cost.curve import Curve
from clustersim.kinds import kinds
from clustersim.records import RequestRecords, RunRecords
from clustersim.scenario.schema import Scenario
from clustersim.serving.adapters import Adapters
from clustersim.serving.kv_cache import KvCache
from clustersim.serving.replica import Replica
from clustersim.serving.routers import Facts, Load, Router, Targets
from clustersim.serving.routers.round_robin import RoundRobin
from clustersim.serving.schedulers import Scheduler
from clustersim.serving.schedulers.chunked_prefill import ChunkedPrefill
from clustersim.serving.schedulers.fair import Fair
from clustersim.serving.schedulers.longest_prefix_match import LongestPrefixMatch
from clustersim.serving.schedulers.prefill_first import PrefillFirst
from clustersim.serving.schedulers.priority import Priority
from clustersim.serving.schedulers.shortest_first import ShortestFirst
from clustersim.serving.schedulers.static_batch import StaticBatch

#: Whole ticks add up without rounding, so that events which ought to fall together do.
TICK_S = 2.0**-20
CHUNKED = ChunkedPrefill()
ORDERS = (ChunkedPrefill, Priority, Fair, ShortestFirst, PrefillFirst, LongestPrefixMatch)
#: Every router, with the settings of each of its examples; the first goes round robin.
ROUTERS: tuple[Router, ...] = (
    RoundRobin(),
    *(kind(**example) for kind in kinds("router").values() for example in kind.examples),
)


@dataclass(frozen=True)
class Steps:
    """Step times in ticks: a decode step takes base + a_seq * batch + a curve of context; a prefill adds to it."""

    base: float = 1024
    a_seq: float = 8
    slopes: tuple[float, ...] = (1, 2, 0, 4)
    """Ticks a token of context, from 0, 64, 128 and 256 tokens on."""
    a_token: float = 16
    a_pair: float = 0.0
    tick_s: float = TICK_S
    curves: dict[int, Curve] = field(default_factory=dict, compare=False)

    def decode(self, batch: int) -> Curve:
        """See StepTimes."""
        if batch not in self.curves:
            knots, value = [0, 64, 128, 256, 512], self.base + self.a_seq * batch
            values = [value]
            for left, right, slope in zip(knots, knots[1:], self.slopes, strict=False):
                values.append(values[-1] + slope * (right - left))
            self.curves[batch] = Curve(knots, [value * self.tick_s for value in values])
        return self.curves[batch]

    def mixed(
        self, batch: int, context: int, tokens: int, pairs: int, keys: int, sequences: int, largest: int
    ) -> float:
        """See StepTimes."""
        prefill = (self.a_token * tokens + self.a_pair * pairs) * self.tick_s
        return self.decode(batch).at(context if batch else 0) + prefill


@dataclass(frozen=True)
class Constant:
    """Every step takes `step_s`, a prefill included, plus `a_seq_s` for each sequence in it."""

    step_s: float
    a_seq_s: float = 0.0

    def decode(self, batch: int) -> Curve:
        """See StepTimes."""
        seconds = self.step_s + self.a_seq_s * batch
        return Curve([0, 1], [seconds, seconds])

    def mixed(
        self, batch: int, context: int, tokens: int, pairs: int, keys: int, sequences: int, largest: int
    ) -> float:
        """See StepTimes."""
        return self.step_s + self.a_seq_s * (batch + sequences)


@dataclass(frozen=True)
class Mix:
    """Requests and the replicas that serve them. With `users` they come in order, as users get answers."""

    arrival_s: Sequence[float]
    input: Sequence[int]
    thinking: Sequence[int]
    answer: Sequence[int]
    scheduler: Scheduler = CHUNKED
    router: Router = ROUTERS[0]
    replicas: int = 1
    data_parallel: int = 1
    in_flight: int = 1
    block_size: int = 16
    num_blocks: int = 1_000_000
    users: int = 0
    think_s: float = 0.0
    priority: Sequence[int] = ()
    tenant: Sequence[int] = ()
    adapter: Sequence[int] = ()
    adapter_slots: int = 0
    """None where there are no adapters."""
    load_s: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of a mix."""

    requests: dict[str, np.ndarray]
    runs: dict[str, np.ndarray]
    replicas: list[Replica]


def serve(mix: Mix, steps: Any = None, replica: type[Replica] = Replica) -> Outcome:
    """Serve a mix to its end with replicas of the given class."""
    env, runs, count = Clock(), RunRecords(), len(mix.input)
    records = RequestRecords(count)
    arrival = np.full(count, np.nan) if mix.users else np.asarray(mix.arrival_s, dtype=float)
    records.extend(
        {"arrival_s": arrival, "input_tokens": np.asarray(mix.input),
         "thinking_tokens": np.asarray(mix.thinking), "answer_tokens": np.asarray(mix.answer)}
    )  # fmt: skip
    for name in ("priority", "tenant", "adapter"):
        if getattr(mix, name):
            records.column(name)[:] = getattr(mix, name)
    loads = [Load() for _ in range(mix.replicas)]

    def tokens(request: int) -> int:
        return int(mix.input[request] + mix.thinking[request] + mix.answer[request])

    # What they ask of prefixes, sessions and prices is made up, and the same in every mode.
    targets = Targets(
        loads, tokens,
        cached=lambda request, target: request * 7 % (target + 2) * (mix.input[request] // (target + 2)),
        session=lambda request: request % 5 - 1,
        input_tokens=lambda request: mix.input[request],
        ttft_limit_s=lambda request: 4096 * TICK_S * (request % 3),
        queue_s=lambda target: fleet[target].tokens_to_prefill() * 16 * TICK_S,
        facts=[Facts(1 / (16 * TICK_S), 1.0, 1.0 + target % 2, 2.0 - target % 2) for target in range(mix.replicas)],
        key=lambda request: request % 7 - 1,
    )  # fmt: skip
    choose = mix.router.start(targets)
    upcoming = iter(range(count))

    def moved(index: int) -> None:
        for watch in targets.watchers:
            watch(index)

    def submit(request: int, now: float) -> None:
        index = choose(request)
        loads[index].requests += 1
        loads[index].tokens += tokens(request)
        moved(index)
        records.replica[request] = index
        fleet[index].submit(request, now)

    def finished(request: int, now: float) -> None:
        load = loads[records.replica[request]]
        load.requests -= 1
        load.tokens -= tokens(request)
        moved(records.replica[request])
        if mix.users:
            env.process(think(now)) if mix.think_s else ask(now)

    def think(now: float) -> Iterator[Event]:
        yield env.timeout(mix.think_s)
        ask(now + mix.think_s)

    def ask(now: float) -> None:
        request = next(upcoming, None)
        if request is not None:
            records.arrival_s[request] = now
            submit(request, now)

    def arrive() -> Iterator[Event]:
        yield env.timeout(0)
        for _ in range(mix.users):
            ask(0.0)
        for request in () if mix.users else upcoming:
            if mix.arrival_s[request] > env.now:
                yield env.timeout(mix.arrival_s[request] - env.now)
            submit(request, mix.arrival_s[request])

    fleet = [
        replica(index, env, records, runs, mix.scheduler, steps or Steps(), KvCache(mix.block_size, mix.num_blocks),
                finished, mix.data_parallel, mix.in_flight,
                Adapters(records, mix.adapter_slots, mix.load_s) if mix.adapter_slots else None)
        for index in range(mix.replicas)
    ]  # fmt: skip
    env.process(arrive())
    env.run()
    names = (*records.FLOATS, *records.INTS)
    return Outcome({name: records.column(name) for name in names}, runs.columns(), fleet)


def draw_mix(rng: np.random.Generator, scheduler: type[Scheduler] | None = None) -> Mix:
    """Return a mix that is tight in everything: KV blocks, slots, adapters and the token budget."""
    count = int(rng.integers(1, 31))
    longest = int(rng.choice([4, 40, 300]))
    lengths = [rng.integers(low, high, count) for low, high in ((1, longest), (0, longest), (1, longest))]
    gaps = rng.geometric(1 / rng.choice([8, 4000, 60000]), count) * (
        rng.random(count) < rng.choice([0.2, 0.8])
    )
    ticks = np.cumsum(gaps)
    ticks[: rng.integers(count + 1)] = 0
    block_size = int(rng.choice([1, 4, 16]))
    needed = -(-int(max(map(sum, zip(*lengths, strict=True)))) // block_size)
    slots = int(rng.integers(1, 9))
    budget = int(rng.choice([1, 3, 16, 100, 10000]))
    parallel = int(rng.integers(1, 4))
    users = int(rng.choice([0, 0, 1, 7]))
    replicas = int(rng.integers(1, 4))
    # Without a pause, an end on one replica is an arrival on another, which may see it or not if it steps then too.
    thinks = replicas > 1 or rng.random() < 0.5
    kind = scheduler or (StaticBatch if rng.random() < 0.15 else ORDERS[rng.integers(len(ORDERS))])
    settings: dict[str, Any] = {} if kind is StaticBatch else {"token_budget": budget}
    if kind is LongestPrefixMatch:
        settings["mixed_chunk"] = bool(rng.random() < 0.5)
    adapters = int(rng.choice([0, 2, 5]))
    return Mix(
        arrival_s=(np.sort(ticks) * TICK_S).tolist(),
        input=lengths[0].tolist(),
        thinking=lengths[1].tolist(),
        answer=lengths[2].tolist(),
        scheduler=kind(max_num_seqs=slots, **settings),
        router=ROUTERS[rng.integers(len(ROUTERS))],
        replicas=replicas,
        data_parallel=parallel,
        in_flight=parallel * int(rng.integers(1, 3)),
        block_size=block_size,
        num_blocks=int(needed * rng.choice([1, 1.3, 2, 50])),
        users=users,
        think_s=thinks * 5000 * TICK_S,
        priority=rng.integers(-1, 3, count).tolist(),
        tenant=rng.integers(3, size=count).tolist(),
        adapter=rng.integers(-1, adapters, count).tolist() if adapters else (),
        adapter_slots=int(rng.integers(1, adapters + 1)) if adapters else 0,
        load_s=int(rng.integers(3)) * 2000 * TICK_S,
    )


def scenario(**changes: Any) -> Scenario:
    """Return a small scenario on eight H100 nodes; deployment and workload are given as far as they differ."""
    deployment = {"name": "serve", "model": "llama-3.1-8b", "on": "pool", **changes.pop("deployment", {})}
    workload = {
        "name": "asks",
        "arrivals": {"kind": "poisson", "rate": "4 req/s"},
        "lengths": {
            "kind": "independent",
            "input": {"kind": "uniform", "low": 10, "high": 1000},
            "thinking": {"kind": "uniform", "low": 0, "high": 300},
            "answer": {"kind": "uniform", "low": 1, "high": 100},
        },
        "num_requests": 100,
        **changes.pop("workload", {}),
    }
    cluster = {"name": "pool", "node": "hgx-h100", "count": 8, **changes.pop("cluster", {})}
    data = {
        "name": "toy",
        "warm_up": "none",
        "fleet": [{"site": "us-iowa", "clusters": [cluster]}],
        "deployments": [deployment],
        "workloads": [{key: value for key, value in workload.items() if value is not None}],
        **changes,
    }
    return Scenario.model_validate(data)
