"""What a front tells its router of replicas: how fast, how dear, how busy they are, and what requests were promised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, overload

from clustersim.results.energy import price_of
from clustersim.scenario.plan import DeploymentPlan
from clustersim.scenario.schema import Scenario
from clustersim.serving.routers import Facts

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.world import World

#: Tokens of the prompts by which prefill is timed, where steps and contexts may be as long: as long as makes GPUs busy.
_PROMPT_TOKENS = 2048
#: Keys of adapters and of tenants begin here, above those of beginnings.
_ADAPTER_KEYS, _TENANT_KEYS = 2**61, 2**62


class SameFacts(Sequence[Facts]):
    """The facts of equal replicas, found when first asked for."""

    def __init__(self, num: int, find: Callable[[], Facts]) -> None:
        self._num = num
        self._find = find

    @cached_property
    def _facts(self) -> Facts:
        return self._find()

    def __len__(self) -> int:
        return self._num

    @overload
    def __getitem__(self, index: int) -> Facts: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Facts]: ...
    def __getitem__(self, index: int | slice) -> Facts | Sequence[Facts]:
        places = range(self._num)[index]
        return self._facts if isinstance(places, int) else [self._facts] * len(places)


def replica_facts(front: Front) -> Facts:
    """Return the facts of one replica of a deployment; prefill is that of the deployment that does it."""
    plan = front.plan
    prefill = front.handover.prefill.plan if front.handover is not None else plan
    usd_per_s, gco2e_per_s = rates(plan)
    return Facts(prefill_tokens_per_s(prefill), 1.0, usd_per_s, gco2e_per_s, name=plan.deployment.name)


def prefill_tokens_per_s(plan: DeploymentPlan) -> float:
    """Return the prompt tokens a second of a replica with nothing else to do, a prompt on each data-parallel rank."""
    tokens = min(
        _PROMPT_TOKENS, plan.max_model_len, plan.deployment.scheduler.max_step_tokens or _PROMPT_TOKENS
    )
    ranks = plan.deployment.parallelism.attention_dp
    all_tokens, pairs = ranks * tokens, ranks * (tokens * (tokens + 1) // 2)
    return all_tokens / plan.step_time.mixed(0, 0, all_tokens, pairs, all_tokens, ranks, tokens)


def rates(plan: DeploymentPlan) -> tuple[float, float]:
    """Return the dollars and the grams of CO2 equivalent that a replica takes a second, at full power.

    Dollars are 0 where no price is known. Embodied carbon is not in it.
    """
    node, site = plan.cluster.node, plan.site
    num = plan.deployment.parallelism.num_accelerators
    device_w = num * node.accelerator.tdp_w.value
    facility_w = (device_w + num / node.count * node.host_max_w.value) * site.pue.value
    cost = price_of(plan)
    usd_per_s = 0.0
    if cost is not None:
        usd_per_s = num * cost.usd_per_s
        if not cost.includes_energy:
            usd_per_s += facility_w * site.electricity_usd_per_j.value
    return usd_per_s, facility_w * site.carbon_g_per_j.value


def queue_s(front: Front, index: int) -> float:
    """Return the seconds of prefill work that wait at a replica, by its number in a deployment.

    What a step in progress that prefills has left counts, too.
    Where another deployment prefills it is what waits at the least busy of its replicas.
    """
    if front.handover is not None:
        return shortest_queue_s(front.handover.prefill)
    replica = front.replicas[index]
    now = front.world.env.now
    busy_s = replica.prefills_for_s(now)
    if not (replica.waiting or replica.computed or replica.coming):
        return busy_s
    replica.settle(now)
    return busy_s + replica.tokens_to_prefill() / front.targets.facts[index].prefill_tokens_per_s


def shortest_queue_s(front: Front) -> float:
    """Return the seconds of prefill work that wait at the least busy replica; inf where none is up."""
    least = inf
    for index, load in enumerate(front.loads):
        if load.up:
            least = min(least, queue_s(front, index))
            if least == 0.0:
                break
    return least


def ttft_limits(scenario: Scenario) -> list[list[float]]:
    """Return the promised time to first token by workload and tenant, inf for none."""
    promises = [
        [workload.slo_of(tenant) for tenant in range(len(workload.all_tenants))]
        for workload in scenario.workloads
    ]
    return [[slo.ttft_s if slo and slo.ttft_s else inf for slo in tenants] for tenants in promises]


def key_of(world: World, request: int) -> int:
    """Return a number that plain requests which begin alike share, else those of an adapter or of a tenant; or -1."""
    records = world.records
    index = records.workload[request]
    beginnings = world.beginnings.get(index)
    if beginnings is not None:
        recurs = world.scenario.workloads[index].prefix is not None  # else it is a row of a trace
        key = beginnings.key(records.prefix[request], records.adapter[request], recurs=recurs)
        if key >= 0:
            return key
    if records.adapter[request] >= 0:
        return _ADAPTER_KEYS + index * 2**24 + records.adapter[request]
    if len(world.scenario.workloads[index].tenants) < 2:
        return -1
    return _TENANT_KEYS + index * 2**24 + records.tenant[request]
