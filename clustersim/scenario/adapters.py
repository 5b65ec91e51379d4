"""LoRA adapters of a scenario: how long loading one takes, and what is wrong with who asks for them where."""

from __future__ import annotations

from collections.abc import Iterator

from clustersim.hardware.node import Node
from clustersim.models.layout import Parallelism
from clustersim.models.lora import Lora, adapter_bytes_per_rank, num_tensors
from clustersim.models.precision import Precision
from clustersim.models.spec import ModelSpec
from clustersim.network.interconnect import host_link
from clustersim.scenario.schema import Scenario
from clustersim.yaml_file import Key


def load_s(lora: Lora, spec: ModelSpec, parallelism: Parallelism, precision: Precision, node: Node) -> float:
    """Return the seconds to copy an adapter from host memory into a slot, all ranks at once.

        latency + bytes of a rank / host link + matrices of a rank x launch latency

    Engines copy each matrix by a call of its own; that such a call takes the host as long as launching a kernel is
    assumed. Where accelerator and host share memory only the calls count. Reading from disk is not in it.
    """
    calls_s = num_tensors(spec, parallelism, lora) * node.accelerator.kernel_launch_s.value
    link = host_link(node)
    if link is None:
        return calls_s
    rate, latency_s = link
    return latency_s + adapter_bytes_per_rank(spec, parallelism, precision, lora) / rate + calls_s


def adapter_problems(scenario: Scenario) -> Iterator[tuple[Key, str]]:
    """Yield workloads that ask for adapters of a deployment which has none, and two halves of one that differ."""
    by_name = {deployment.name: deployment for deployment in scenario.deployments}
    for index, workload in enumerate(scenario.workloads):
        if workload.adapters is None:
            continue
        for name in workload.deployments or [scenario.deployments[0].name]:
            deployment = by_name.get(name)
            if deployment is not None and deployment.lora is None:
                where = f"deployments.{scenario.deployments.index(deployment)}.lora"
                yield (
                    ("workloads", index, "adapters"),
                    f'requests ask for adapters, but deployment "{name}" serves none; give it some slots: '
                    f"--set '{where}={{max_loras: 4}}'",
                )
    for index, decode in enumerate(scenario.deployments):
        prefill = by_name.get(decode.prefill_by or "")
        if prefill is not None and prefill.lora != decode.lora:
            yield (
                ("deployments", index, "lora"),
                f'"{prefill.name}" prefills for "{decode.name}", but serves other adapters; give both the same `lora`',
            )
