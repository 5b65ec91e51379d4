"""Schedulers, admission and adapters with prompts prefilled elsewhere: everything ends, runs equal steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import test_disaggregation as disaggregation
import toy_tasks

from clustersim.records import SHED
from clustersim.scenario.schema import Scenario


def mix(seed: int) -> toy_tasks.Mix:
    """A random pair of pools with any schedulers, and often with adapters, shared beginnings and admission."""
    rng = np.random.default_rng(seed)
    when = ("layer_by_layer", "at_the_end")[seed % 2]
    plain = disaggregation.mix(seed, when, bool(rng.random() < 0.3))
    data = plain.scenario.model_dump(mode="json", exclude_unset=True)
    for deployment in data["deployments"]:
        deployment["scheduler"] = toy_tasks.draw_scheduler(rng)
    workload = data["workloads"][0]
    workload["tenants"] = [
        {"name": str(number), "weight": 1, "priority": number, "slo": {"ttft": f"{limit} ms"}}
        for number, limit in enumerate(rng.choice([2, 8, 50], 3))
    ]
    if rng.random() < 0.4:
        lora = {"max_loras": int(rng.integers(1, 3))}
        workload["adapters"] = {"num_adapters": 3}
        for deployment in data["deployments"]:
            deployment["lora"] = lora
    if rng.random() < 0.4:
        tokens = int(rng.choice([5, 40]))
        workload["prefix"] = {"kind": "shared_system_prompt", "tokens": tokens, "num_prompts": 2}
    if rng.random() < 0.5:
        limit = {"kind": "queue_limit", "max_outstanding": int(rng.integers(1, 6))}
        data["deployments"][1]["admission"] = (
            limit if rng.random() < 0.5 else {"kind": "slo_aware", "margin": 2}
        )
    return dataclasses.replace(plain, scenario=Scenario.model_validate(data))


@pytest.mark.parametrize("first", range(0, 60, 12))
def test_everything_ends_and_runs_equal_steps(first: int) -> None:
    shed = loads = 0
    for seed in range(first, first + 12):
        runs, steps = (toy_tasks.play(mix(seed), mode) for mode in ("runs", "stepwise"))
        disaggregation.assert_same(runs, steps)
        np.testing.assert_array_equal(runs.rows["adapter_loads"], steps.rows["adapter_loads"])
        for played in (runs, steps):
            disaggregation.check(played)
        shed += (runs.rows["status"] == SHED).any()
        loads += runs.rows["adapter_loads"].any()
    assert shed > 0
    assert loads > 0
