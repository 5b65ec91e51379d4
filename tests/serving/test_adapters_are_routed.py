"""Requests for one LoRA adapter go to one replica where a router keeps what belongs together."""

from __future__ import annotations

import toy

from clustersim.simulation import simulate


def loads(router: str) -> int:
    """Return how often adapters were loaded: 12 of them, on 4 replicas with 4 slots each."""
    result = simulate(
        toy.scenario(
            deployment={"replicas": 4, "router": router, "lora": {"max_loras": 4, "rank": 16}},
            workload={
                "arrivals": {"kind": "poisson", "rate": "40 req/s"}, "num_requests": 400,
                "adapters": {"num_adapters": 12},
            },
        )
    )  # fmt: skip
    return int(result.requests["adapter_loads"].sum())


def test_affinity_to_adapters_spares_loads() -> None:
    assert loads("session_affine") < 0.5 * loads("least_outstanding_requests")
