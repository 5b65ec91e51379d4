"""Whether a fleet can be operated as a scenario says: autoscalers that fit, failures and updates of what there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clustersim.errors import unknown
from clustersim.hardware.failures import Extent
from clustersim.scenario.schema import Cluster, Deployment, Scenario
from clustersim.yaml_file import Key

Found = Iterator[tuple[Key, str]]


def extents_of(scenario: Scenario) -> list[Extent]:
    """Return what failures may hit."""
    return [
        Extent(cluster.name, fleet.site.name, cluster.count, cluster.node.count)
        for fleet in scenario.fleet
        for cluster in fleet.clusters
    ]


def operation_problems(scenario: Scenario) -> Found:
    """Yield what is wrong with autoscalers, failures and updates; every deployment's cluster must be known."""
    names = [deployment.name for deployment in scenario.deployments]
    for index, update in enumerate(scenario.updates):
        if update.deployment not in names:
            yield ("updates", index, "deployment"), unknown("deployment", update.deployment, names)
    for index, failure in enumerate(scenario.failures):
        for key, what in failure.problems(extents_of(scenario)):
            yield ("failures", index, key), what
    clusters = {cluster.name: cluster for fleet in scenario.fleet for cluster in fleet.clusters}
    found = list(_limits(scenario, clusters))
    yield from found
    if not found:
        yield from _starved(scenario, clusters)


def _limits(scenario: Scenario, clusters: Mapping[str, Cluster]) -> Found:
    """Yield numbers of replicas that contradict one another, or the cluster."""
    for index, deployment in enumerate(scenario.deployments):
        key: Key = ("deployments", index)
        scaler = deployment.autoscaler
        if scaler is None:
            if not deployment.replicas:
                yield (
                    (*key, "replicas"),
                    f'"{deployment.name}" never has a replica: 0 needs an autoscaler that starts some',
                )
            continue
        if deployment.replicas > scaler.max_replicas:
            what = f"{deployment.replicas} is more than the autoscaler's max_replicas: {scaler.max_replicas}"
            yield (*key, "replicas"), what
        cluster, each = clusters[deployment.on], deployment.parallelism.num_accelerators
        if scaler.max_replicas * each > cluster.num_accelerators:
            yield (
                (*key, "autoscaler", "max_replicas"),
                f"{scaler.max_replicas} replicas of {each} accelerators need {scaler.max_replicas * each}, but "
                f'"{cluster.name}" has {cluster.num_accelerators}; at most {cluster.num_accelerators // each} fit',
            )


def _kept(deployment: Deployment, asked_by: Deployment) -> int:
    """Return the replicas that a deployment keeps whatever happens, when another asks for its accelerators."""
    scaler = deployment.autoscaler
    if scaler is None:
        return deployment.replicas
    prior = 0 if asked_by.autoscaler is None else asked_by.autoscaler.priority
    return scaler.min_replicas if scaler.priority > prior else scaler.floor


def _starved(scenario: Scenario, clusters: Mapping[str, Cluster]) -> Found:
    """Yield deployments that might wait for accelerators for ever, as others keep theirs.

    Each must find room for one replica beside what all others keep. Of two that prefill and decode for each other, one
    cannot go down while it waits for the other: beside all replicas that it may have there must be room for the other.
    """
    for index, deployment in enumerate(scenario.deployments):
        cluster = clusters[deployment.on]
        size = deployment.parallelism.num_accelerators
        partners = {
            each.name for each in scenario.deployments
            if deployment.prefill_by == each.name or each.prefill_by == deployment.name
        }  # fmt: skip
        need, keep = max(1, _kept(deployment, deployment)) * size, 0
        for each in scenario.deployments:
            if each.on == deployment.on and each is not deployment:
                kept = _most(each) if each.name in partners else _kept(each, deployment)
                keep += kept * each.parallelism.num_accelerators
        if need + keep > cluster.num_accelerators:
            with_all = f" (all that {', '.join(sorted(partners))} may have)" if partners else ""
            yield (
                ("deployments", index, "autoscaler"),
                f'"{deployment.name}" could wait for accelerators for ever: it needs at least {need}, and the others '
                f'on "{cluster.name}" may keep {keep}{with_all} of its {cluster.num_accelerators}; lower somebody\'s '
                "min_replicas or max_replicas, or give the cluster more nodes",
            )


def _most(deployment: Deployment) -> int:
    """Return the replicas that a deployment may have."""
    return deployment.replicas if deployment.autoscaler is None else deployment.autoscaler.max_replicas
