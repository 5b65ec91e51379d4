"""Fleets made equal, knobs turned to a target, and the settings that differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import scenario

from clustersim.errors import InputError
from clustersim.scenario.plan import plan
from clustersim.study.compare.entries import Entry, entries
from clustersim.study.compare.equal import _around, equalise, parse_budget, with_replicas
from clustersim.study.compare.knob import Knob, knobs_of, parse_knob, parse_target, search
from clustersim.study.compare.settings import differing, paths

YEAR_S = 365.25 * 86400


# ---- equal ---------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.01, 100)), min_size=1, max_size=4), st.floats(0.05, 50)
)
def test_the_fleet_below_is_the_largest_that_fits(parts, share):
    start, units = ([part[side] for part in parts] for side in (0, 1))
    target = share * sum(n * unit for n, unit in parts)
    below, above = _around(start, units, target)
    cost = [sum(n * unit for n, unit in zip(fleet, units, strict=True)) for fleet in (below, above)]
    least = sum(units)
    assert min(below) >= 1
    assert cost[0] <= target * (1 + 1e-6) or below == [1] * len(parts)
    assert cost[1] > target * (1 - 1e-6) or cost[1] >= least
    if len(parts) == 1 and target >= units[0]:
        assert below == [int(target / units[0] * (1 + 1e-9))]


def two(first=None, second=None):
    return entries(
        [scenario(deployment={"replicas": 8, **(first or {})}), scenario(deployment=second or {})], ("a", "b")
    )


def test_equal_gpus_keeps_the_first_and_scales_the_second():
    found = two(second={"replicas": 3, "parallelism": {"tp": 2}})
    scaled, balance = equalise(found, "gpus", None)
    assert scaled[0].scenario.deployments == found[0].scenario.deployments
    assert scaled[1].scenario.deployments[0].replicas == 4
    assert scaled[1].scenario.fleet[0].clusters[0].count == 1
    assert [share.amount for share in balance.shares] == [8, 8]
    assert [share.imbalance for share in balance.shares] == [0, 0]
    assert not balance.unequal


def test_what_stays_unequal_is_said():
    found = two({"replicas": 7}, {"parallelism": {"tp": 4}})
    _, balance = equalise(found, "gpus", None)
    assert balance.shares[1].imbalance == pytest.approx(8 / 7 - 1)
    assert [share.letter for share in balance.unequal] == ["B"]


def test_a_budget_is_for_all_and_never_exceeded():
    scaled, balance = equalise(two(second={"parallelism": {"tp": 4}}), None, "15 gpus")
    assert [entry.scenario.deployments[0].replicas for entry in scaled] == [15, 3]
    assert [share.amount for share in balance.shares] == [15, 12]
    assert [entry.scenario.fleet[0].clusters[0].count for entry in scaled] == [2, 2]
    for entry in scaled:
        plan(entry.scenario)


def test_power_counts_hosts_and_cooling():
    found = two(second={"parallelism": {"tp": 2}})
    _, balance = equalise(found, "power", None)
    node = found[0].scenario.fleet[0].clusters[0].node
    pue = found[0].scenario.fleet[0].site.pue.value
    assert balance.target == pytest.approx(node.max_w * pue)


def test_cost_adds_electricity_where_the_price_does_not_hold_it():
    with_it, without = (
        scenario(cluster={"price": {"kind": "fixed", "rate": "3600 USD/h", "includes_energy": holds}})
        for holds in (True, False)
    )
    _, balance = equalise([Entry("A", "a", with_it), Entry("B", "b", without)], "cost", None)
    assert balance.shares[0].amount == pytest.approx(1.0)
    assert balance.shares[1].amount > 1.0


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("10 M$/yr", "cost", 1e7 / YEAR_S), ("$10M/yr", "cost", 1e7 / YEAR_S), ("1.5 B$/year", "cost", 1.5e9 / YEAR_S),
        ("2 USD/h", "cost", 2 / 3600), ("20 MW", "power", 2e7), ("512 gpus", "gpus", 512), ("1,024", "gpus", 1024),
    ],
)  # fmt: skip
def test_budgets_are_read(text, kind, amount):
    assert parse_budget(text, None) == (kind, pytest.approx(amount))


@pytest.mark.parametrize("text", ["10 M$", "20 parsec", "lots", "$/yr", "10 GB", "0 W", "-3 gpus"])
def test_other_budgets_are_refused(text):
    with pytest.raises(InputError, match="--budget"):
        parse_budget(text, None)


def test_refusals():
    with pytest.raises(InputError, match="is a power, but --equal cost"):
        parse_budget("20 MW", "cost")
    with pytest.raises(InputError, match="one replica of each deployment takes 8 accelerators"):
        equalise(two({"replicas": 1}, {"parallelism": {"tp": 8}}), "gpus", None)
    with pytest.raises(InputError, match="raise the budget"):
        equalise(two(second={"parallelism": {"tp": 8}}), None, "7 gpus")
    with pytest.raises(InputError, match="the same scenario once gpus are equal"):
        equalise(two(), "gpus", None)


def test_replicas_bring_just_the_nodes_that_hold_them():
    for replicas, nodes in ((1, 1), (8, 1), (9, 2), (100, 13)):
        assert with_replicas(scenario(), [replicas]).fleet[0].clusters[0].count == nodes


# ---- knobs ---------------------------------------------------------------------------------------------------------


def stub(accuracy, spread=0.0, num=8):
    """Return a run whose accuracy at a setting is known, with some spread over replications."""
    noise = np.random.default_rng(0).normal(0, 1, num)

    def run(setting):
        tried.append(setting)
        return [{"accuracy": accuracy(setting) + spread * each} for each in noise]

    tried: list[int | None] = []
    return run, tried


@given(st.integers(1, 64), st.integers(1, 30), st.integers(1, 30))
def test_the_smallest_setting_that_reaches_the_target_is_found(needed, low, span):
    run, tried = stub(lambda n: 0.9 if n >= needed else 0.3)
    found = search(Knob("k", low, low + span), parse_target(0.8), run)
    best = next((n for n in range(low, low + span + 1) if n >= needed), None)
    assert (found.found, found.reached) == (best, best is not None)
    assert len(tried) == len(set(tried)) <= 7


def test_an_interval_that_holds_the_target_is_not_enough():
    run, _ = stub(lambda n: 1 - 0.5**n, spread=0.02)
    found = search(Knob("k", 1, 16), parse_target(0.75), run)
    assert found.found == 3
    by_setting = {trial.setting: trial for trial in found.trials}
    assert by_setting[2].low < 0.75 < by_setting[2].high + 0.01
    assert by_setting[3].low >= 0.75


def test_without_a_knob_the_scenario_is_judged_as_it_is():
    run, tried = stub(lambda _: 0.9)
    assert search(None, parse_target("0.8"), run).reached
    assert tried == [None]


def test_a_run_without_a_value_never_reaches():
    target = parse_target("p99_ttft_ms<=500")
    assert target.reached([100.0, 120.0, 110.0])
    assert not target.reached([100.0, None, 110.0])
    assert not target.reached([600.0, 601.0])


def test_knobs_belong_to_the_scenarios_that_have_them():
    found = [scenario(), scenario(deployment={"replicas": 2})]
    replicas = parse_knob("deployments.serve.replicas=1..4")
    assert knobs_of(found, [replicas]) == [replicas, replicas]
    assert parse_knob("workload.num_requests=1..4").path == "workloads.0.num_requests"
    with pytest.raises(
        InputError, match=r'no scenario has the setting.*Did you mean "deployments\.\w+\.replicas"'
    ):
        knobs_of(found, [parse_knob("deployments.serve.replica=1..4")])
    with pytest.raises(InputError, match="turn one at a time"):
        knobs_of(found, [replicas, parse_knob("deployments.0.parallelism.tp=1..4")])


@pytest.mark.parametrize("text", ["replicas", "a=1", "a=4..1", "a=1..1", "a=0.5..2"])
def test_other_knobs_are_refused(text):
    with pytest.raises(InputError, match="write it like"):
        parse_knob(text)


@pytest.mark.parametrize("text", ["good", "a==3", "a>=b"])
def test_other_targets_are_refused(text):
    with pytest.raises(InputError, match="--target"):
        parse_target(text)


def test_a_metric_that_no_run_has_is_refused():
    with pytest.raises(InputError, match="where a workload has tasks"):
        search(None, parse_target(0.8), lambda _: [{"goodput_frac": 1.0}])


# ---- settings ------------------------------------------------------------------------------------------------------


def rows(*scenarios):
    return {row.path: row.values for row in differing(scenarios)}


def test_equal_scenarios_differ_in_nothing():
    assert rows(scenario(), scenario(name="other", seed=3, outputs={"trace": False})) == {}


def test_a_default_is_the_same_as_that_value_given():
    assert (
        rows(scenario(), scenario(deployment={"replicas": 1, "router": "least_outstanding_requests"})) == {}
    )


def test_things_of_the_library_are_one_row_and_variations_figure_by_figure():
    other = rows(scenario(), scenario(cluster={"node": "hgx-h200"}))
    assert other == {"fleet.0.clusters.0.node": ("hgx-h100", "hgx-h200")}
    varied = rows(
        scenario(),
        scenario(cluster={"node": {"base": "hgx-h100", "accelerator": {"base": "h100-sxm", "tdp": "900 W"}}}),
    )
    assert varied["fleet.0.clusters.0.node.accelerator.tdp.value"] == ("700 W", "900 W")


def test_parts_of_another_kind_are_one_row():
    found = rows(scenario(), scenario(deployment={"scheduler": {"kind": "static_batch", "max_num_seqs": 9}}))
    (row,) = found.items()
    assert row[0] == "deployments.0.scheduler"
    assert "static_batch (max_num_seqs 9)" in row[1][1]


def test_demand_is_told_from_supply():
    found = differing([scenario(), scenario(workload={"num_requests": 50}, deployment={"replicas": 2})])
    assert {row.path: row.is_demand for row in found} == {
        "deployments.0.replicas": False, "workloads.0.num_requests": True,
    }  # fmt: skip


def test_a_path_stands_by_number_and_by_name():
    found = paths(scenario())
    assert {"deployments.0.replicas", "deployments.serve.replicas", "workloads.asks.num_requests"} <= found
