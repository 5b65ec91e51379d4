"""Runs, curves and shapes: what they promise about sizes, deadlines, money and energy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.economics.prices.fixed import Fixed
from clustersim.economics.prices.published import TcoNeocloud
from clustersim.errors import InputError
from clustersim.hardware.site import load_site
from clustersim.models.layout import Parallelism, check_layout
from clustersim.training.curve import PretrainingCurve
from clustersim.training.goodput import Reliability
from clustersim.training.layout import Recipe, TrainingCluster, TrainingLayout
from clustersim.training.post_training import PostTraining, post_training
from clustersim.training.run import Pretraining, TrainingRun, best_batch_tokens
from clustersim.training.shapes import dense, moe

SITE = load_site("us-average")
BATCH = 2**22


def job(**changes: object) -> Pretraining:
    cluster = TrainingCluster(node="hgx-h100", num_accelerators=256)
    given_ = Pretraining(dense(8e9), 1e12, cluster, SITE, TcoNeocloud(), batch_tokens=BATCH)
    return replace(given_, **changes)


@pytest.fixture(scope="module")
def run() -> TrainingRun:
    return job().run()


def test_a_run_is_its_steps_and_failures(run: TrainingRun) -> None:
    steps_s = run.tokens / run.step.tokens * run.step.step_s
    assert run.duration_s == pytest.approx(steps_s / run.goodput.frac)
    assert run.accelerator_hours == pytest.approx(256 * run.duration_s / 3600)
    assert run.flops == pytest.approx(6 * 7.5e9 * 1e12, rel=0.15)
    assert run.effective_mfu < run.step.mfu


def test_a_run_costs_its_hours_and_draws_below_its_rating(run: TrainingRun) -> None:
    assert run.price is not None
    assert run.usd == pytest.approx(run.price.usd_per_s * 256 * run.duration_s)
    assert 0.4 * run.peak_w < run.energy_j / run.duration_s < run.peak_w
    assert run.gco2e == pytest.approx(run.energy_j * SITE.carbon_g_per_j.value)


def test_electricity_is_added_where_the_price_has_none() -> None:
    own = job(price=Fixed.model_validate({"rate": "1 USD/h", "includes_energy": False})).run()
    energy_usd = own.energy_j * SITE.electricity_usd_per_j.value
    assert own.usd == pytest.approx(own.accelerator_hours + energy_usd)


def test_twice_the_tokens_take_twice_as_long(run: TrainingRun) -> None:
    assert job(tokens=2e12).run().duration_s == pytest.approx(2 * run.duration_s)
    assert job(reliability=Reliability.of("meta-rsc-1")).run().duration_s > run.duration_s


def test_a_deadline_takes_the_fewest_accelerators() -> None:
    deadline_s = 6 * 86400.0
    found = job().within(deadline_s)
    assert found.duration_s <= deadline_s
    fewer = TrainingCluster(node="hgx-h100", num_accelerators=found.step.num_accelerators // 2)
    assert job(cluster=fewer).run().duration_s > deadline_s
    with pytest.raises(InputError, match=r"the fastest is .* days on"):
        job().within(600.0)
    with pytest.raises(InputError, match="leave it out"):
        job(layout=TrainingLayout(dp=256)).within(deadline_s)
    with pytest.raises(InputError, match="no whole number of sequences"):
        job(batch_tokens=BATCH + 1).within(deadline_s)


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(InputError, match="less than one global batch"):
        job(tokens=1e6).run()


def test_batches_grow_with_the_run() -> None:
    batches = [best_batch_tokens(flops, 4096) for flops in (1e20, 1e22, 1e24, 1e26)]
    assert batches == sorted(batches)
    assert all(batch % 4096 == 0 for batch in batches)


def test_a_curve_meets_its_knots_and_grows_between() -> None:
    curve = PretrainingCurve(job())
    at_knot = curve.at(2.0**33)
    exact = job(spec=dense(2.0**33)).run()
    assert at_knot.duration_s == pytest.approx(exact.duration_s / exact.tokens)
    assert exact.usd is not None
    assert at_knot.usd == pytest.approx(exact.usd / exact.tokens)
    seconds = [curve.at(size).duration_s for size in np.geomspace(2e9, 3e10, 20)]
    assert seconds == sorted(seconds)
    between = job(spec=dense(1.05e10)).run()
    assert curve.at(1.05e10).duration_s == pytest.approx(between.duration_s / between.tokens, rel=0.05)


def test_a_curve_without_a_price_says_so() -> None:
    curve = PretrainingCurve(job(cluster=TrainingCluster(node="hgx-h800", num_accelerators=256)))
    assert curve.at(8e9).usd is None


@settings(max_examples=60, deadline=None)
@given(st.floats(np.log(5e8), np.log(1e14)))
def test_dense_models_have_the_size_asked_for_and_can_be_cut(log_size: float) -> None:
    size = float(np.exp(log_size))
    spec = dense(size)
    assert spec.num_parameters == pytest.approx(size, rel=0.01)
    assert not check_layout(spec, Parallelism(tp=8))
    assert 20 < spec.hidden_size / spec.num_layers < 260
    assert 2 < (spec.intermediate_size or 0) / spec.hidden_size < 6


@settings(max_examples=40, deadline=None)
@given(st.floats(np.log(2e9), np.log(1e12)), st.floats(2, 30))
def test_experts_have_the_sizes_asked_for(log_active: float, sparsity: float) -> None:
    active = float(np.exp(log_active))
    spec = moe(active, sparsity)
    assert spec.num_active_parameters == pytest.approx(active, rel=0.06)
    assert spec.num_parameters == pytest.approx(active * sparsity, rel=0.25 if sparsity < 6 else 0.1)
    assert spec.moe is not None
    assert spec.moe.num_experts % 8 == 0


def test_shapes_outside_the_range_are_refused() -> None:
    with pytest.raises(InputError, match="choose 5e"):
        dense(1e6)
    with pytest.raises(InputError, match="sparsity"):
        moe(1e10, 0.5)


def test_llama_like_sizes_give_llama_like_shapes() -> None:
    for size, layers, hidden in ((8.03e9, 32, 4096), (70.6e9, 80, 8192), (405.9e9, 126, 16384)):
        spec = dense(size)
        assert spec.num_layers == pytest.approx(layers, rel=0.2)
        assert spec.hidden_size == pytest.approx(hidden, rel=0.15)


def test_post_training_counts_what_it_says(run: TrainingRun) -> None:
    given_ = PostTraining(
        num_iterations=100, num_prompts=256, samples=16, prompt_tokens=200, rollout_tokens=4000
    )
    prices = {"usd_per_rollout_token": 1e-6, "s_per_rollout_token": 1e-6, "trainer_usd_per_s": 0.1}
    found = post_training(given_, run.step, **prices)
    assert found.rollout_tokens == 100 * 256 * 16 * 4000
    assert found.trained_tokens == 100 * 256 * 16 * 4200
    assert found.update_s == pytest.approx(found.trained_tokens * 4 / 3 / run.step.tokens_per_s)
    assert found.duration_s == pytest.approx(found.rollout_s + found.update_s)
    assert found.usd == pytest.approx(found.rollout_tokens * 1e-6 + 0.1 * found.update_s)
    apart = post_training(given_.model_copy(update={"placement": "separate"}), run.step, **prices)
    assert apart.duration_s == pytest.approx(max(found.rollout_s, found.update_s))
    assert apart.update_usd == pytest.approx(0.1 * apart.duration_s)
    again = post_training(given_.model_copy(update={"epochs": 2}), run.step, **prices)
    assert again.update_s == pytest.approx(found.update_s * (2 + 1 / 3) / (4 / 3))


def test_recipes_change_what_a_run_costs(run: TrainingRun) -> None:
    narrow = job(recipe=Recipe(precision="fp8")).run()
    assert narrow.duration_s < run.duration_s
    assert job(recipe=Recipe(slowdown=1.25)).run().duration_s > 1.1 * run.duration_s
