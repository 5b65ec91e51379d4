"""Equal deployments share their tables, and nothing else does."""

from __future__ import annotations

import pytest

from clustersim import simulate
from clustersim.scenario.load import load
from clustersim.scenario.plan import plan

SHORT = ["horizon=20 s"]


@pytest.fixture
def chat():
    return load("chat_h100", SHORT)


def test_plans_of_equal_deployments_share_their_tables(chat):
    (one,), (two,) = plan(chat), plan(load("chat_h100", [*SHORT, "seed=5"]))
    assert one.cost is two.cost
    assert one.step_time is two.step_time


@pytest.mark.parametrize(
    "change",
    ["fleet.0.clusters.0.node.accelerator.memory_bandwidth=2 TB/s", "deployments.0.parallelism={tp: 2}",
     "deployments.0.precision={weights: fp8_block, activations: fp8, kv_cache: bf16}", "deployments.0.serving_engine.step_overhead=1 ms"],
)  # fmt: skip
def test_others_do_not(chat, change):
    (one,), (two,) = plan(chat), plan(load("chat_h100", [*SHORT, change, "deployments.0.replicas=1"]))
    assert one.cost != two.cost
    assert one.step_time is not two.step_time
    assert one.step_time.decode(3).at(5000) == pytest.approx(
        plan(chat)[0].step_time.decode(3).at(5000), rel=0
    )


def test_context_is_told_apart(chat):
    (one,), (two,) = plan(chat), plan(load("chat_h100", [*SHORT, "deployments.0.max_model_len=4096"]))
    assert one.cost is two.cost
    assert one.step_time is not two.step_time


def test_what_ran_before_changes_no_result(chat):
    first = simulate(chat)
    simulate(load("chat_h100", [*SHORT, "workload.rate_scale=1.5"]))
    again = simulate(chat)
    assert first.requests.equals(again.requests)
    assert {k: v for k, v in first.metrics.items() if k != "cpu_s"} == {
        k: v for k, v in again.metrics.items() if k != "cpu_s"
    }
