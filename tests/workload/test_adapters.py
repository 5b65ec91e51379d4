"""LoRA adapters that requests ask for, and how urgent tenants are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from clustersim.workload import Workload, generate
from clustersim.workload.popularity import zipf


def workload(num: int = 1000, **settings: Any) -> Workload:
    base = {"arrivals": {"kind": "poisson", "rate": "5 req/s"}, "num_requests": num,
            "lengths": {"kind": "fixed", "input": 50, "answer": 20}}  # fmt: skip
    return Workload.model_validate({**base, **settings})


def test_without_adapters_all_ask_for_the_model_itself():
    requests = generate(workload(), 0)
    assert requests.adapter.dtype == np.int64
    assert (requests.adapter == -1).all()


def test_adapters_are_as_popular_as_zipf_says_and_change_nothing_else():
    many = workload(200_000, adapters={"num_adapters": 8, "zipf_exponent": 0.9, "base_share": 0.25})
    requests, plain = generate(many, 2), generate(workload(200_000), 2)
    assert (requests.adapter == -1).mean() == pytest.approx(0.25, abs=0.004)
    counts = np.bincount(requests.adapter[requests.adapter >= 0], minlength=8)
    assert counts / counts.sum() == pytest.approx(zipf(8, 0.9), rel=0.05)
    for name in ("arrival_s", "input_tokens", "answer_tokens", "tenant", "prefix"):
        np.testing.assert_array_equal(getattr(requests, name), getattr(plain, name))


def test_adapters_may_have_weights():
    requests = generate(workload(100_000, adapters={"num_adapters": 3, "weights": [1, 1, 8]}), 0)
    assert np.bincount(requests.adapter) / 100_000 == pytest.approx([0.1, 0.1, 0.8], abs=0.005)


def test_one_adapter_is_always_the_one():
    assert (generate(workload(adapters={"num_adapters": 1}), 0).adapter == 0).all()


def test_zipf():
    assert zipf(3, 0).tolist() == pytest.approx([1 / 3] * 3)
    assert zipf(3, 2).tolist() == pytest.approx([36 / 49, 9 / 49, 4 / 49])


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        ({}, "Field required"),
        ({"num_adapters": 0}, "greater than 0"),
        ({"num_adapters": 2, "weights": [1]}, "has 1 `weights` for 2 adapters"),
        ({"num_adapters": 1, "weights": [1], "zipf_exponent": 1}, "both `weights` and `zipf_exponent`"),
        ({"num_adapters": 1, "weights": [-1]}, "greater than 0"),
        ({"num_adapters": 1, "zipf_exponent": float("nan")}, "finite number"),
        ({"num_adapters": 1, "base_share": 1}, "less than 1"),
        ({"num_adapters": 1, "rank": 8}, "rank"),
    ],
)
def test_adapters_that_cannot_be_are_refused(adapters: dict[str, Any], words: str):
    with pytest.raises(ValidationError) as caught:
        workload(adapters=adapters)
    assert words in str(caught.value)


def tenants(**urgent: Any) -> Workload:
    return workload(tenants=[{"name": "urgent", "weight": 1, **urgent}, {"name": "batch", "weight": 1}])


def test_tenants_have_priorities_of_which_the_lowest_is_most_urgent():
    assert [tenant.priority for tenant in tenants(priority=-5).all_tenants] == [-5, 0]
    assert [tenant.priority for tenant in workload().all_tenants] == [0]


@pytest.mark.parametrize("priority", [1.5, 1.0, "1", True, None, 2**31, -(2**31) - 1, "high"])
def test_a_priority_is_a_whole_number(priority: object):
    with pytest.raises(ValidationError, match="priority"):
        tenants(priority=priority)
