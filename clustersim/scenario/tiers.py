"""What can be wrong with the slower tiers of KV caches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clustersim.units import si
from clustersim.yaml_file import Key

if TYPE_CHECKING:
    from clustersim.scenario.plan import DeploymentPlan

#: Fastest first: what gives way in one tier goes to the next.
ORDER = ("host_memory", "local_store", "remote_store")


def tier_problems(plans: Sequence[DeploymentPlan]) -> Iterator[tuple[Key, str]]:
    """Yield (place, problem) for every tier that could not be used as it is given."""
    stores: dict[tuple[str, str, str], tuple[str, float]] = {}
    for plan in plans:
        deployment = plan.deployment
        key: Key = ("deployments", plan.index, "kv_tiers")
        if not deployment.kv_tiers:
            continue
        if not deployment.prefix_caching:
            yield key, "nothing goes there with prefix_caching: false; leave out one of the two"
        if deployment.prefill_by is not None:
            yield key, f'its prompts are prefilled by "{deployment.prefill_by}"; give the tiers to that one'
        names = [tier.where for tier in deployment.kv_tiers]
        if names != sorted(set(names), key=ORDER.index):
            right = ", ".join(sorted(set(names), key=ORDER.index))
            yield (
                key,
                f"each tier takes what the one before it has no room for: {right}, in this order, each once",
            )
        block_bytes = plan.kv_bytes_per_token * plan.memory.engine.block_size
        for index, tier in enumerate(deployment.kv_tiers):
            place = (*key, index, "capacity")
            if tier.capacity_bytes < block_bytes:
                yield (
                    place,
                    f"{si(tier.capacity_bytes, 'B')} is less than one block of KV, {si(block_bytes, 'B')}",
                )
            if tier.where == "remote_store":
                store = (deployment.on, deployment.model.name, deployment.formats.kv_cache)
                other, size = stores.setdefault(store, (deployment.name, tier.capacity_bytes))
                if size != tier.capacity_bytes:
                    yield (
                        place,
                        f'it is the store of "{other}", too, which says {si(size, "B")}; say the same of both',
                    )
