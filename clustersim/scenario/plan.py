"""From a scenario to what each deployment rests on: its place in the fleet, memory, cost model and step times.

Everything that can be wrong with a scenario beyond its form is found here, before anything runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from clustersim.cost.collectives import Fabric
from clustersim.cost.memory import Memory
from clustersim.cost.model import CostModel
from clustersim.cost.profile import Profile, generic, load_profile
from clustersim.cost.step_time import StepTime
from clustersim.cost.tabulated import one_of_equals, step_time
from clustersim.errors import InputError, Problem, unknown
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.site import Site
from clustersim.models.layout import (
    Parallelism,
    check_layout,
    kv_bytes_per_token_per_rank,
    weight_bytes_per_rank,
)
from clustersim.scenario.accuracy import Ability, ability_of, task_problems
from clustersim.scenario.adapters import adapter_problems, load_s
from clustersim.scenario.admission import admission_problems
from clustersim.scenario.bounds import bound_problems
from clustersim.scenario.operability import operation_problems
from clustersim.scenario.pairs import pair_problems
from clustersim.scenario.schema import Cluster, Deployment, Scenario
from clustersim.scenario.targets import target_problems
from clustersim.scenario.tiers import tier_problems
from clustersim.units import GIGA
from clustersim.workload.workload import Workload
from clustersim.yaml_file import Document, Key


@dataclass(frozen=True)
class DeploymentPlan:
    """One deployment on its cluster."""

    index: int
    deployment: Deployment
    cluster: Cluster
    site: Site

    @property
    def num_accelerators(self) -> int:
        """Accelerators of all replicas."""
        return self.deployment.replicas * self.deployment.parallelism.num_accelerators

    @cached_property
    def profile(self) -> Profile:
        """The measured or fitted profile of the accelerator, or the generic one."""
        device = self.cluster.node.accelerator.name.rstrip("*")
        kernels = self.deployment.serving_engine.kernels
        own = load_profile(device, self.deployment.profile, kernels)
        twin = self.cluster.node.accelerator.kernels_of
        if own is not None or twin is None:
            return own or generic()
        shared = load_profile(twin, None, kernels)
        return shared.model_copy(update={"collectives": {}}) if shared else generic()

    @cached_property
    def accelerator(self) -> Accelerator:
        """The accelerator, with the figures measured on it where its profile says so."""
        return self.profile.applied_to(self.cluster.node.accelerator)

    @cached_property
    def fabric(self) -> Fabric:
        """What joins the ranks of a replica."""
        node = self.cluster.node
        return Fabric(
            node.scale_up, node.count, self.cluster.network.path(node, self.cluster.count), self.profile
        )

    @cached_property
    def cost(self) -> CostModel:
        """The cost model of a replica."""
        deployment = self.deployment
        return one_of_equals(CostModel(
            deployment.model, deployment.parallelism, deployment.formats, self.accelerator,
            self.profile, self.fabric, deployment.serving_engine, deployment.expert_imbalance,
            deployment.speculation, deployment.expert_popularity, deployment.lora,
        ))  # fmt: skip

    @cached_property
    def memory(self) -> Memory:
        """What fills the memory of one accelerator."""
        deployment = self.deployment
        return Memory(
            deployment.model, deployment.parallelism, deployment.formats, deployment.serving_engine,
            self.accelerator.memory_bytes.value,
            deployment.scheduler.max_step_tokens or self.max_model_len, deployment.scheduler.max_num_seqs,
            deployment.speculation, deployment.lora,
        )  # fmt: skip

    @property
    def max_model_len(self) -> int:
        """Longest input plus output in tokens."""
        return self.deployment.max_model_len or self.deployment.model.max_context

    @property
    def max_replicas(self) -> int:
        """Replicas that there may be at once."""
        scaler = self.deployment.autoscaler
        return max(self.deployment.replicas, scaler.max_replicas if scaler else 0)

    @property
    def weights_bytes(self) -> float:
        """What a replica reads when it starts: the weights, once."""
        return sum(
            weight_bytes_per_rank(self.deployment.model, Parallelism(), self.deployment.formats).values()
        )

    @property
    def kv_bytes_per_token(self) -> float:
        """KV of one token on all ranks together, every layer and head once."""
        deployment = self.deployment
        full, windowed, _ = kv_bytes_per_token_per_rank(deployment.model, Parallelism(), deployment.formats)
        return full + windowed

    @property
    def adapter_load_s(self) -> float:
        """Seconds to load a LoRA adapter from host memory."""
        deployment = self.deployment
        assert deployment.lora is not None
        return load_s(
            deployment.lora, deployment.model, deployment.parallelism, deployment.formats, self.cluster.node
        )

    def ability(self, workload: Workload) -> Ability | None:
        """Return how often this deployment's model is right at the tasks of a workload; None where nobody knows."""
        return ability_of(self.deployment, workload)

    @cached_property
    def step_time(self) -> StepTime:
        """Step times, tabulated when asked for."""
        return step_time(self.cost, self.max_model_len)


def plan(scenario: Scenario, document: Document | None = None) -> list[DeploymentPlan]:
    """Return a plan for every deployment; raises InputError with every problem found, each with its place."""
    found = list(_problems(scenario))
    if found:
        raise InputError([Problem(_where(key, document), what) for key, what in found])
    return _plans(scenario)


def _plans(scenario: Scenario) -> list[DeploymentPlan]:
    clusters = {cluster.name: (cluster, fleet.site) for fleet in scenario.fleet for cluster in fleet.clusters}
    return [
        DeploymentPlan(index, deployment, *clusters[deployment.on])
        for index, deployment in enumerate(scenario.deployments)
    ]


def deployments_of(scenario: Scenario, workload: int) -> list[int]:
    """Return the indices of the deployments that serve workload number `workload`, in the order it names them."""
    names = [deployment.name for deployment in scenario.deployments]
    return [names.index(name) for name in scenario.workloads[workload].deployments] or [0]


def _where(key: Key, document: Document | None) -> str:
    dotted = ".".join(map(str, key))
    return f"{document.place(key)}: {dotted}" if document else dotted


def _problems(scenario: Scenario) -> Iterator[tuple[Key, str]]:
    clusters = [cluster for fleet in scenario.fleet for cluster in fleet.clusters]
    for what, names in (
        ("cluster", [c.name for c in clusters]),
        ("deployment", [d.name for d in scenario.deployments]),
        ("workload", [w.name for w in scenario.workloads]),
    ):
        for name, times in Counter(names).items():
            if times > 1:
                yield (f"{what}s" if what != "cluster" else "fleet",), f'{times} {what}s are called "{name}"'
    by_name = {cluster.name: cluster for cluster in clusters}
    ok = True
    for index, deployment in enumerate(scenario.deployments):
        if deployment.on not in by_name:
            ok = False
            yield ("deployments", index, "on"), unknown("cluster", deployment.on, by_name)
    yield from pair_problems(scenario)
    yield from adapter_problems(scenario)
    yield from admission_problems(scenario)
    yield from target_problems(scenario)
    for index, workload in enumerate(scenario.workloads):
        yield from task_problems(("workloads", index, "tasks"), workload, scenario)
    yield from bound_problems(scenario)
    if ok:
        crowded = list(_room(scenario, by_name))
        yield from crowded or operation_problems(scenario)
        plans = _plans(scenario)
        for each in plans:
            yield from _fits(each)
        yield from tier_problems(plans)


def _room(scenario: Scenario, clusters: dict[str, Cluster]) -> Iterator[tuple[Key, str]]:
    taken: Counter[str] = Counter()
    for index, deployment in enumerate(scenario.deployments):
        cluster = clusters[deployment.on]
        each = deployment.parallelism.num_accelerators
        taken[cluster.name] += each * deployment.replicas
        free = cluster.num_accelerators - taken[cluster.name] + each * deployment.replicas
        if taken[cluster.name] > cluster.num_accelerators:
            yield (
                ("deployments", index, "replicas"),
                f"{deployment.replicas} replicas of {each} accelerators need {each * deployment.replicas}, "
                f'but "{cluster.name}" '
                f"has {max(0, free)} of its {cluster.num_accelerators} left; it has room for {max(0, free) // each}",
            )


def _fits(plan: DeploymentPlan) -> Iterator[tuple[Key, str]]:
    deployment, memory = plan.deployment, plan.memory
    key: Key = ("deployments", plan.index)
    layout = check_layout(deployment.model, deployment.parallelism, deployment.formats)
    if layout:
        yield from (((*key, "parallelism"), what) for what in layout)
        return
    moe = deployment.model.moe
    if moe is not None:
        try:
            deployment.expert_popularity.shares(moe.num_experts, moe.top_k)
        except InputError as error:
            yield (*key, "expert_popularity"), str(error)
            return
    if deployment.speculation is not None:
        drafting = deployment.model, deployment.parallelism, deployment.formats
        found = list(deployment.speculation.problems(*drafting))
        yield from (((*key, "speculation"), what) for what in found)
        if found:
            return
    if plan.deployment.profile is not None:
        try:
            _ = plan.profile
        except InputError as error:
            yield (*key, "profile"), str(error)
            return
    device = plan.cluster.node.accelerator
    if device.needs_profile and plan.profile is generic():
        what = f"nothing is known of {device.name} until it is measured: python -m calibrate run"
        yield (*key, "on"), what
    elif memory.blocks_per_rank == 0:
        yield (*key, "model"), _does_not_fit(plan)
    elif memory.tokens_per_rank < plan.max_model_len and deployment.max_model_len is not None:
        yield (
            (*key, "max_model_len"),
            f"one request may have {plan.max_model_len:,} tokens, but the KV cache of a rank holds "
            f"{memory.tokens_per_rank:,}; use a smaller max_model_len or more ranks",
        )


def _does_not_fit(plan: DeploymentPlan) -> str:
    memory, deployment = plan.memory, plan.deployment
    device = plan.cluster.node.accelerator
    rows = ", ".join(f"{what} {size / GIGA:.1f} GB" for what, size in memory.rows()[:-2] if size)
    text = (
        f"{deployment.model.name} in {deployment.formats.weights} does not fit: "
        f"of {memory.capacity_bytes / GIGA:.0f} GB on a {device.name} the engine may take "
        f"{memory.usable_bytes / GIGA:.1f} GB, but needs {rows} and room for KV."
    )
    for tp in (2, 4, 8, 16, 32, 64):
        layout = Parallelism(tp=tp, ep=tp if deployment.parallelism.ep > 1 else 1)
        if tp > deployment.parallelism.tp and not check_layout(deployment.model, layout, deployment.formats):
            wider = Memory(deployment.model, layout, deployment.formats, memory.engine, memory.capacity_bytes,
                           memory.max_tokens, memory.max_seqs, memory.speculation, memory.lora)  # fmt: skip
            if wider.blocks_per_rank:
                return f"{text} It fits with parallelism: {{tp: {tp}}}."
    return text + " Use more ranks, narrower weights, or an accelerator with more memory."
