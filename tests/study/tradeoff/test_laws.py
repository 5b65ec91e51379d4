"""Limits, exchange rates, monotonicity and conservation, on costs that follow from FLOP counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tradeoff import all_plans, by_flops, central, study

from clustersim.quality.benchmark import load_benchmark
from clustersim.quality.data import repeated_tokens
from clustersim.quality.overtraining import cheapest as cheapest_model
from clustersim.quality.parallel import vote
from clustersim.quality.parameters import Parameters
from clustersim.quality.solver import MODES, solver
from clustersim.quality.trained_model import load_trained_model
from clustersim.study.tradeoff.answer import DEMANDS, crossover
from clustersim.study.tradeoff.plans import cheapest
from clustersim.study.tradeoff.quality import _seen, needed_mean
from clustersim.study.tradeoff.sensitivity import correlation_ratio
from clustersim.workload.strategies.vote import Vote

KC, KT = "target.parameters.logit_per_decade_compute", "target.parameters.logit_per_decade_tokens"


def test_no_demand_takes_the_least_training_and_the_longest_thinking() -> None:
    found = all_plans(["slo.e2el=20 min"])
    best = cheapest(found, 1e-6)
    assert best is not None
    assert best.thinking == pytest.approx(found.surfaces.thinking[-1])
    assert best.pretrain_usd == pytest.approx(float(found.pretrain_usd.min()))
    # the compute-optimal model of that loss, as near as the grid has one
    share = (1 / 18) ** Parameters().moe_exponent  # dense weights count less than those of the sparse anchor
    optimum = central(found.study).needs.solver.law.optimum(share * best.train_flops)
    assert share * best.size == pytest.approx(float(optimum.parameters), rel=0.2)


def test_endless_demand_overtrains_a_small_model() -> None:
    found = all_plans()
    little, much = cheapest(found, 1e3), cheapest(found, 1e10)
    assert little is not None
    assert much is not None
    assert much.tokens_per_weight > 5 * little.tokens_per_weight
    assert much.thinking < little.thinking
    assert much.train_flops > little.train_flops


def test_at_one_length_of_thinking_it_is_the_overtrained_model_of_sardana() -> None:
    asked = study("target.anchor_sparsity=1", "sizes=[1e9, 3e9, 1e10, 3e10, 1e11, 3e11]", "thinking=[4000, 4001]",
                  "policies.train_more.max_thinking=4001", "policies.think_longer.min_thinking=1")  # fmt: skip
    from clustersim.study.tradeoff.plans import plans

    found = plans(asked, by_flops(asked), central(asked))
    demand = 1e8
    best = cheapest(found, demand)
    assert best is not None
    law = central(asked).needs.solver.law
    loss = float(law.loss(best.size, best.train_tokens))
    years = sum(asked.demand.growth_per_year**y for y in range(asked.demand.years)) * 365.25
    served = demand * years * asked.demand.peak_to_mean * (4000 + asked.demand.answer_tokens)
    theory = cheapest_model(loss, served)
    assert best.size == pytest.approx(
        theory.parameters, rel=0.2
    )  # the grid has eight sizes between two knots
    assert best.pretrain_usd + best.serving_usd == pytest.approx(theory.total_cost / 1e18, rel=0.02)


@pytest.mark.parametrize(
    ("kc", "kt", "decades"), [(1.05, 0.9, 1.17), (1.2, 1.0, 1.2), (1.0, 1.0, 1.0), (1.4, 0.7, 2.0)]
)
def test_exchange_rates_come_out_as_set(kc: float, kt: float, decades: float) -> None:
    """Jones 2021: 1.2 decades of inference for one of training; Epoch: one to two."""
    asked = study(f"{KC}={kc}", f"{KT}={kt}", "thinking=[100, 1000, 10000]")
    needs = central(asked).needs
    flops = needs.effective_flops(
        needs.capability(np.array([1.0]), np.array([0.5]), np.array([100.0, 10_000.0]))
    )
    train = np.log10(flops[0, 0, 0] / flops[0, 0, 1])
    assert 2.0 / train == pytest.approx(decades, abs=0.005)


@given(
    low=st.floats(0.3, 0.85), more=st.floats(0.001, 0.1), demand=st.floats(3, 10), mode=st.sampled_from(MODES)
)
@settings(max_examples=25, deadline=None)
def test_a_higher_target_is_never_cheaper(low: float, more: float, demand: float, mode: str) -> None:
    easy, hard = (
        cheapest(all_plans([f"target.accuracy={a!r}"], mode), 10**demand) for a in (low, low + more)
    )
    if hard is not None:
        assert easy is not None
        assert easy.usd <= hard.usd * (1 + 1e-9)


@given(demand=st.floats(3, 9), factor=st.floats(1, 30), cheaper=st.floats(0.05, 1))
@settings(max_examples=25, deadline=None)
def test_more_demand_is_never_cheaper_and_cheaper_serving_never_dearer(
    demand: float, factor: float, cheaper: float
) -> None:
    dear = all_plans()
    one, more = cheapest(dear, 10**demand), cheapest(dear, 10**demand * factor)
    less = cheapest(all_plans(serving_factor=cheaper), 10**demand)
    assert one is not None
    assert more is not None
    assert less is not None
    assert one.usd <= more.usd
    assert less.usd <= one.usd


@given(demand=st.floats(3, 10), mode=st.sampled_from(MODES))
@settings(max_examples=20, deadline=None)
def test_parts_add_up_and_the_policies_bound_the_optimum(demand: float, mode: str) -> None:
    found = all_plans(mode=mode)
    every = [cheapest(found, 10**demand, policy) for policy in (None, *found.study.policies.values())]
    for best in every:
        if best is None:
            continue
        assert best.usd == pytest.approx(best.pretrain_usd + best.rl_usd + best.serving_usd)
        assert every[0] is not None
        assert every[0].usd <= best.usd
        assert best.train_flops == pytest.approx(6 * best.size * best.train_tokens)
        assert best.mean_mw <= best.peak_mw


@given(mean=st.floats(0.3, 0.95))
@settings(max_examples=20, deadline=None)
def test_the_needed_mean_is_the_inverse_of_the_vote(mean: float) -> None:
    numbers = Parameters()
    reached = float(vote(mean, 16, numbers.heterogeneity, numbers.plurality_threshold))
    assert needed_mean(Vote(n=16), reached, numbers) == pytest.approx(mean, abs=0.003)


@given(seen=st.floats(0.1, 30))
@settings(max_examples=30, deadline=None)
def test_tokens_seen_are_the_inverse_of_what_they_are_worth(seen: float) -> None:
    worth = repeated_tokens(1.0, seen)
    assert float(_seen(worth, 1.0, 15.4)) == pytest.approx(seen, rel=1e-6)


def test_the_anchor_needs_its_own_compute() -> None:
    """At the anchor's accuracy, thinking and year, the study asks for the anchor's own pretraining."""
    known = solver(load_trained_model("deepseek-r1"), load_benchmark("aime24"))
    asked = study("target.accuracy=0.798", "target.year=2024", "sparsity=1", "target.anchor_sparsity=1")
    needs = central(asked).needs
    flops = needs.effective_flops(needs.capability(np.array([1.0]), np.array([0.798]), np.array([10_000.0])))
    assert flops.item() == pytest.approx(known.effective_flops, rel=1e-6)
    assert needs.train_tokens(flops, np.array([37e9])).item() == pytest.approx(14.8e12, rel=1e-4)


def test_a_wall_is_out_of_reach() -> None:
    found = all_plans(
        ["target.accuracy=0.999", "thinking=[500, 1500]", "policies.think_longer.min_thinking=1000"],
        "loss_linked",
    )
    assert cheapest(found, 1e6) is None


def test_the_crossover_is_where_the_curves_meet() -> None:
    first, second = 1e6 + 1e-2 * DEMANDS, 1e5 + 1e-1 * DEMANDS
    assert crossover(first, second) == pytest.approx(1e7, rel=0.05)
    assert crossover(second, np.full_like(first, np.inf)) == 0
    assert crossover(np.full_like(first, np.inf), second) == float("inf")
    assert np.isnan(crossover(np.full_like(first, np.inf), np.full_like(first, np.inf)))


def test_the_correlation_ratio_finds_what_matters() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2000))
    y = 2 * a + b
    assert correlation_ratio(a, y) == pytest.approx(0.8, abs=0.05)
    assert correlation_ratio(b, y) == pytest.approx(0.2, abs=0.05)
    assert correlation_ratio(rng.normal(size=2000), y) < 0.03
    assert correlation_ratio(a, np.ones(2000)) == 0
