"""What is wrong with which deployment prefills for which."""

from __future__ import annotations

from collections.abc import Iterator

from clustersim.errors import unknown
from clustersim.scenario.schema import Scenario
from clustersim.yaml_file import Key


def pair_problems(scenario: Scenario) -> Iterator[tuple[Key, str]]:
    """Yield each `prefill_by` that names no deployment which could prefill for the one that says it."""
    by_name = {deployment.name: deployment for deployment in scenario.deployments}
    for index, decode in enumerate(scenario.deployments):
        key: Key = ("deployments", index, "prefill_by")
        if decode.prefill_by is None:
            continue
        others = [name for name in by_name if name != decode.name]
        if decode.prefill_by == decode.name:
            another = f", or name another: {', '.join(others)}" if others else ""
            yield (
                key,
                f'"{decode.name}" cannot prefill for itself over a network; leave prefill_by out{another}',
            )
            continue
        prefill = by_name.get(decode.prefill_by)
        if prefill is None:
            none = f'no deployment "{decode.prefill_by}", nor any other than "{decode.name}"; leave prefill_by out'
            yield key, unknown("deployment", decode.prefill_by, others) if others else none
        elif prefill.prefill_by is not None:
            yield key, f'"{prefill.name}" has its own prompts prefilled by "{prefill.prefill_by}"'
        elif prefill.model != decode.model:
            yield (
                key,
                f"{prefill.name} serves {prefill.model.name}, {decode.name} {decode.model.name}: KV of another model",
            )
        elif prefill.formats.kv_cache != decode.formats.kv_cache:
            yield (
                key,
                f"{prefill.name} keeps KV in {prefill.formats.kv_cache}, {decode.name} in {decode.formats.kv_cache}; "
                "give both the same precision.kv_cache",
            )
