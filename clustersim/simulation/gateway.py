"""A gateway: which of several deployments gets each request of a workload, or each of its tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from clustersim.network.wan import fibre_latency_s
from clustersim.randomness import stream
from clustersim.records import RequestRecords, TaskRecords
from clustersim.scenario.plan import DeploymentPlan
from clustersim.serving.routers import Facts, Router, Targets
from clustersim.serving.routers.least_outstanding import LeastOutstandingRequests
from clustersim.simulation.facts import key_of, prefill_tokens_per_s, rates, shortest_queue_s
from clustersim.workload.generate import Sampler

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.world import World

#: Requests drawn for the mean by which deployments are compared.
_DRAWN = 1000


class Branch:
    """A deployment as a gateway sees it, with its load for each replica of the fastest; see AnyLoad.

    Replicas that prefill for it count as its own. `facts` and `speed`, its requests a second over those of the fastest,
    by replica, are set once all are known.
    """

    def __init__(self, front: Front, latency_s: float) -> None:
        self.front = front
        self.pools = [front] if front.handover is None else [front, front.handover.prefill]
        self.latency_s = latency_s
        self.facts = Facts()
        self.speed = 1.0
        self.requests = 0.0
        self.tokens = 0.0
        self.cached_tokens = 0.0  # of a deployment all tokens count
        self.open = True
        """Whether it could hold the request that is being sent."""
        self.on_change: Callable[[], None] = _nobody
        self._sums = [0, 0]
        self._seen = [[(0, 0)] * len(pool.loads) for pool in self.pools]
        for number, pool in enumerate(self.pools):
            pool.targets.watchers.append(partial(self._moved, number))

    @property
    def up(self) -> bool:
        """Whether it takes the request that is being sent: a replica of each of its pools is up."""
        return self.open and all(pool.num_up for pool in self.pools)

    def expect(self, requests: int, tokens: int) -> None:
        """Count what is on its way to it, and again, with negative numbers, what has come."""
        self._sums[0] += requests
        self._sums[1] += tokens
        self._share()

    def _moved(self, pool: int, index: int) -> None:
        load = self.pools[pool].loads[index]
        requests, tokens = self._seen[pool][index]
        self._seen[pool][index] = load.requests, load.tokens
        self.expect(load.requests - requests, load.tokens - tokens)

    def _share(self) -> None:
        size = self.speed * max(1, sum(pool.num_up for pool in self.pools))
        self.requests, self.tokens = self._sums[0] / size, self._sums[1] / size
        self.on_change()

    def cached(self, request: int) -> int:
        """Return the most tokens of a request's input that one of its replicas that are up has in its cache."""
        front = self.pools[-1]
        targets, loads, best = front.targets, front.loads, 0
        for most, holders in targets.holders(request) if targets.holders is not None else ():
            for index in holders:
                if best >= most:
                    return best
                if loads[index].up:
                    best = max(best, targets.cached(request, index))
        return best


class Gateway:
    """Where requests of a workload for several deployments enter."""

    def __init__(self, world: World, index: int, fronts: list[Front]) -> None:
        self.world = world
        workload = world.scenario.workloads[index]
        self.rows: RequestRecords | TaskRecords = world.records if workload.tasks is None else world.tasks
        self.branches = [Branch(front, _latency_s(world, workload.gateway_site, front)) for front in fronts]
        self.longest = max(fronts, key=lambda front: front.longest)
        """The deployment that can hold the longest requests."""
        self._shortest = min(front.longest for front in fronts)
        self._compare(index)
        plain = workload.tasks is None
        targets = Targets(
            self.branches,
            self.tokens,
            (lambda request, at: self.branches[at].cached(request)) if plain else (lambda _task, _at: 0),
            (lambda _request: -1) if plain else (lambda task: task),
            input_tokens=lambda row: self.rows.input_tokens[row],
            ttft_limit_s=lambda row: world.ttft_limits_s[index][self.rows.tenant[row]],
            queue_s=lambda at: shortest_queue_s(self.branches[at].front),
            facts=[branch.facts for branch in self.branches],
            rng=stream(world.seed, workload.name, "gateway"),
            key=partial(key_of, world) if plain else lambda _task: -1,
        )
        router = workload.gateway or LeastOutstandingRequests()
        assert isinstance(router, Router)
        self._choose = router.start(targets)
        for number, branch in enumerate(self.branches):
            branch.on_change = partial(self._tell, targets, number)

    @staticmethod
    def _tell(targets: Targets, number: int) -> None:
        for watch in targets.watchers:
            watch(number)

    def pick(self, row: int) -> Branch:
        """Return where a request or task goes: of those that could hold it and are up, the router's choice.

        If none is up it waits at the first that could hold it; if none could it is refused by the one that holds most.
        """
        tokens = self.tokens(row)
        if tokens <= self._shortest:
            return self._routed(row) or self.branches[0]
        fit = [branch for branch in self.branches if tokens <= branch.front.longest]
        if not fit:
            return next(branch for branch in self.branches if branch.front is self.longest)
        shut = [branch for branch in self.branches if branch not in fit]
        self._set_open(shut, value=False)
        found = self._routed(row)
        self._set_open(shut, value=True)
        return found or fit[0]

    def _routed(self, row: int) -> Branch | None:
        if any(branch.up for branch in self.branches):
            return self.branches[self._choose(row)]
        return None

    @staticmethod
    def _set_open(branches: list[Branch], *, value: bool) -> None:
        for branch in branches:
            branch.open = value
            branch.on_change()

    def tokens(self, row: int) -> int:
        """Return the input and output tokens of a request, or of a plain attempt at a task."""
        rows = self.rows
        return rows.input_tokens[row] + rows.thinking_tokens[row] + rows.answer_tokens[row]

    def _compare(self, index: int) -> None:
        """Set what is known of the deployments, for the mean request of the workload."""
        world = self.world
        workload = world.scenario.workloads[index]
        drawn = Sampler(workload, world.seed).draw(_DRAWN)
        mean = float(drawn.input_tokens.mean()), float(drawn.output_tokens.mean())
        for branch in self.branches:
            branch.facts = _facts(branch, *mean)
        fastest = max(branch.facts.requests_per_s for branch in self.branches)
        for branch in self.branches:
            branch.speed = branch.facts.requests_per_s / fastest


def _nobody() -> None:
    pass


def _latency_s(world: World, site: str | None, front: Front) -> float:
    """Return the way to a deployment and back: what a user waits for, though all of it is taken on the way there."""
    own = next((fleet.site for fleet in world.scenario.fleet if fleet.site.name == site), None)
    if own is None or own.name == front.plan.site.name:
        return 0.0
    return 2 * (world.scenario.wan.latency_s.value + fibre_latency_s(own, front.plan.site))


def _facts(branch: Branch, input_tokens: float, output_tokens: float) -> Facts:
    """Return the facts of a deployment for requests of these lengths, by replica of all its pools."""
    front, prefill = branch.front, branch.pools[-1].plan
    prompts_per_s = prefill_tokens_per_s(prefill)
    prefill_s = input_tokens / prompts_per_s
    decode_s = _decode_s(front.plan, input_tokens, output_tokens)
    # One that is asleep wakes up with one replica.
    num = [max(1, pool.plan.deployment.replicas) for pool in branch.pools]
    if len(num) == 1:
        requests_per_s = 1 / (prefill_s + decode_s)
    else:
        requests_per_s = min(num[0] / decode_s, num[1] / prefill_s) / sum(num)
    paid = [rates(pool.plan) for pool in branch.pools]
    usd_per_s, gco2e_per_s = (
        sum(each * count for each, count in zip(what, num, strict=True)) / sum(num)
        for what in zip(*paid, strict=True)
    )
    return Facts(
        prompts_per_s, requests_per_s, usd_per_s, gco2e_per_s, sum(num), branch.latency_s, front.plan.deployment.name
    )  # fmt: skip


def _decode_s(plan: DeploymentPlan, input_tokens: float, output_tokens: float) -> float:
    """Return a replica's seconds for the output of one of as many equal requests at once as it has room for."""
    ranks = plan.deployment.parallelism.attention_dp
    context = input_tokens + output_tokens / 2
    room = int(plan.memory.num_blocks * plan.memory.engine.block_size / context)
    batch = max(1, min(plan.deployment.scheduler.max_num_seqs * ranks, room))
    return output_tokens * plan.step_time.decode(batch).at(round(batch * context)) / batch
