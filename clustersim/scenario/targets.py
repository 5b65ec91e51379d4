"""Whether workloads go to deployments that there are, by routers that can choose among them."""

from __future__ import annotations

from collections.abc import Iterator

from clustersim.errors import InputError, unknown
from clustersim.network.wan import fibre_latency_s
from clustersim.scenario.schema import Scenario
from clustersim.serving.routers import Router
from clustersim.workload.workload import Workload
from clustersim.yaml_file import Key

Found = Iterator[tuple[Key, str]]


def target_problems(scenario: Scenario) -> Found:
    """Yield what is wrong with where workloads go, and with the routers that send them."""
    for index, deployment in enumerate(scenario.deployments):
        for what in deployment.router.problems(()):
            yield ("deployments", index, "router"), what
    names = [deployment.name for deployment in scenario.deployments]
    prefill_only = {each.prefill_by for each in scenario.deployments if each.prefill_by != each.name}
    for index, workload in enumerate(scenario.workloads):
        key: Key = ("workloads", index)
        if workload.to is None and len(names) > 1:
            yield key, f'"to" is missing: which deployment serves it? Choices: {", ".join(names)}'
        for name in workload.deployments:
            if name not in names:
                yield (*key, "to"), unknown("deployment", name, names)
            elif name in prefill_only:
                yield (*key, "to"), f'"{name}" only prefills for others; name the one that decodes'
        if isinstance(workload.gateway, Router):
            for what in workload.gateway.problems(workload.deployments):
                yield (*key, "gateway"), what
        if workload.gateway_site is not None:
            yield from _site_problems((*key, "gateway_site"), workload, scenario)


def _site_problems(key: Key, workload: Workload, scenario: Scenario) -> Found:
    sites = {fleet.site.name: fleet.site for fleet in scenario.fleet}
    own = sites.get(workload.gateway_site or "")
    if own is None:
        yield key, unknown("site", workload.gateway_site or "", sites)
        return
    at = {cluster.name: fleet.site for fleet in scenario.fleet for cluster in fleet.clusters}
    theirs = {
        site.name: site
        for deployment in scenario.deployments
        if deployment.name in workload.deployments and (site := at.get(deployment.on)) is not None
    }
    for site in theirs.values():
        if site.name != own.name:
            try:
                fibre_latency_s(own, site)
            except InputError as error:
                yield key, str(error)
