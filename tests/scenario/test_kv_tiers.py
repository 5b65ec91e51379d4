"""Slower tiers that could not be used as they are given are refused, with the place."""

from __future__ import annotations

from typing import Any

import pytest
import toy
from pydantic import ValidationError

from clustersim.errors import InputError
from clustersim.scenario.plan import plan

HOST = {"where": "host_memory", "capacity": "100 GB"}
DRIVES = {"where": "local_store", "capacity": "1 TB"}
STORE = {"where": "remote_store", "capacity": "10 TB"}


@pytest.mark.parametrize(
    ("deployment", "place", "words"),
    [
        ({"kv_tiers": [DRIVES, HOST]}, "kv_tiers", "host_memory, local_store, in this order"),
        ({"kv_tiers": [HOST, HOST]}, "kv_tiers", "each once"),
        ({"kv_tiers": [HOST], "prefix_caching": False}, "kv_tiers", "nothing goes there with prefix_caching: false"),
        ({"kv_tiers": [{**HOST, "capacity": "2 MB"}]}, "kv_tiers.0.capacity", "2 MB is less than one block of KV, 2.1 MB"),
        ({"kv_tiers": [{**HOST, "capacity": "0 B"}]}, "kv_tiers.0.capacity", "less than one block"),
    ],
)  # fmt: skip
def test_tiers_that_make_no_sense_are_refused(deployment: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(toy.scenario(deployment=deployment))
    assert f"deployments.0.{place}" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("tiers", [[HOST], [DRIVES], [HOST, STORE], [HOST, DRIVES, STORE], []])
def test_tiers_from_fast_to_slow_are_fine(tiers: list[dict[str, str]]) -> None:
    assert plan(toy.scenario(deployment={"kv_tiers": tiers}))


@pytest.mark.parametrize("tier", [{**HOST, "where": "tape"}, {"where": "host_memory"}, {**HOST, "capacity": "100"},
                                  {**HOST, "store": "never"}, {**HOST, "load": 1}])  # fmt: skip
def test_what_is_no_tier_is_refused(tier: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="kv_tiers"):
        toy.scenario(deployment={"kv_tiers": [tier]})


def pair(**changes: Any) -> list[dict[str, Any]]:
    """Return a deployment that decodes and one that prefills for it, or another one beside it."""
    common = {"model": "llama-3.1-8b", "on": "pool"}
    return [
        {"name": "one", **common, **changes.pop("one", {})},
        {"name": "two", **common, **changes.pop("two", {})},
    ]


@pytest.mark.parametrize(
    ("deployments", "words"),
    [
        (pair(one={"kv_tiers": [HOST], "prefill_by": "two"}), 'prompts are prefilled by "two"; give the tiers to that one'),
        (pair(one={"kv_tiers": [STORE]}, two={"kv_tiers": [{**STORE, "capacity": "9 TB"}]}),
         'it is the store of "one", too, which says 10 TB'),
    ],
)  # fmt: skip
def test_deployments_must_agree(deployments: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(toy.scenario(deployments=deployments, workload={"to": "one"}))
    assert words in str(caught.value)


def test_stores_of_other_kv_are_others() -> None:
    two = {
        "kv_tiers": [{**STORE, "capacity": "9 TB"}],
        "precision": {"weights": "bf16", "activations": "bf16", "kv_cache": "fp8"},
    }
    assert plan(toy.scenario(deployments=pair(one={"kv_tiers": [STORE]}, two=two), workload={"to": "one"}))
