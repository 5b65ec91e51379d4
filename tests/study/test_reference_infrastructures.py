"""The two reference infrastructures: equal capital, equal power, equal quality, one demand."""

from __future__ import annotations

import math

import pytest
from scipy.special import expit, logit

import clustersim as cs
from clustersim.hardware.accelerator import load_accelerator
from clustersim.models.hf_config import load_model
from clustersim.quality.parameters import Parameters
from clustersim.quality.scaling import EPOCH_REFIT
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario

EQUAL_POWER = ["fleet.0.clusters.serve.count=32", "deployments.serve.replicas=128"]
TRAINED_ON = 15.6e12


def capital_usd(scenario: Scenario) -> float:
    (cluster,) = scenario.fleet[0].clusters
    price = load_accelerator(cluster.node.accelerator.name).price_usd
    assert price is not None
    return cluster.num_accelerators * price.value


def power_w(scenario: Scenario) -> float:
    (fleet,) = scenario.fleet
    return sum(each.count * each.node.max_w for each in fleet.clusters) * fleet.site.pue.value


def test_capital_is_equal_and_nothing_stands_idle() -> None:
    one, other = cs.load("pretraining_heavy"), cs.load("inference_heavy")
    assert capital_usd(other) == pytest.approx(capital_usd(one), rel=0.02)
    for scenario in (one, other, cs.load("inference_heavy", EQUAL_POWER)):
        (each,) = plan(scenario)
        assert each.num_accelerators == each.cluster.num_accelerators


def test_power_is_equal_where_it_is_said() -> None:
    assert power_w(cs.load("inference_heavy", EQUAL_POWER)) == pytest.approx(
        power_w(cs.load("pretraining_heavy")), rel=0.02
    )


def test_demand_is_the_same() -> None:
    one, other = (cs.load(name).model_dump() for name in ("pretraining_heavy", "inference_heavy"))
    for each in (one, other):
        tasks = each["workloads"][0]["tasks"]
        tasks.pop("accuracy"), tasks.pop("strategy")
    assert one["workloads"] == other["workloads"]
    assert one["horizon"] == other["horizon"]


def test_hardware_differs_as_each_purpose_wants() -> None:
    train, serve = (cs.load(name).fleet[0].clusters[0] for name in ("pretraining_heavy", "inference_heavy"))

    def by_flop(value: float, of: object) -> float:
        return value / of.bf16_flops_per_s.value  # type: ignore[attr-defined]

    one, other = train.node.accelerator, serve.node.accelerator
    assert one.price_usd is not None
    assert other.price_usd is not None
    assert by_flop(one.price_usd.value, one) < by_flop(other.price_usd.value, other)
    assert by_flop(one.memory_bytes.value, one) < by_flop(other.memory_bytes.value, other)
    assert by_flop(one.memory_bandwidth_bytes_per_s.value, one) < by_flop(
        other.memory_bandwidth_bytes_per_s.value, other
    )
    assert train.node.nic_bytes_per_s > serve.node.nic_bytes_per_s
    assert train.network.share_frac() > serve.network.share_frac()


def test_thinking_makes_up_for_training() -> None:
    """The thinking that is derived from both trainings is in the files, and both fleets are right equally often."""
    numbers = Parameters()
    found = {}
    for name, model in (("pretraining_heavy", "llama-3.1-405b"), ("inference_heavy", "llama-3.1-70b")):
        scenario = cs.load(name)
        tasks = scenario.workloads[0].tasks
        assert tasks is not None
        assert scenario.deployments[0].model == load_model(model)
        effective = float(EPOCH_REFIT.effective_flops(load_model(model).num_parameters, TRAINED_ON))
        found[name] = (effective, tasks.strategy.scale, tasks.accuracy)  # type: ignore[attr-defined]
    (large, little, apt), (small, much, less) = found["pretraining_heavy"], found["inference_heavy"]
    exchange = numbers.logit_per_decade_compute / numbers.logit_per_decade_tokens
    assert much / little == pytest.approx((large / small) ** exchange, rel=0.001)
    assert much < numbers.saturation_multiple
    gain = numbers.logit_per_decade_tokens
    assert isinstance(apt, float)
    assert isinstance(less, float)
    one = expit(logit(apt) + gain * math.log10(little))
    other = expit(logit(less) + gain * math.log10(much))
    assert other == pytest.approx(one, abs=0.0005)
    assert one == pytest.approx(0.699, abs=0.001)


def test_both_run_and_are_right_equally_often() -> None:
    short = ["horizon=40 s", "warm_up=none"]
    one, other = (cs.simulate(cs.load(name, short)) for name in ("pretraining_heavy", "inference_heavy"))
    assert one["num_tasks"] == other["num_tasks"]
    assert one["accuracy"] == pytest.approx(other["accuracy"], abs=0.01)
