"""A training step obeys the arithmetic it is made of, and never beats the machine."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.errors import InputError
from clustersim.hardware.node import load_node
from clustersim.models.hf_config import load_model
from clustersim.training.layout import Overlap, Recipe, TrainingCluster, TrainingLayout
from clustersim.training.memory import kept_bytes, training_memory
from clustersim.training.ops import micro_batch_ops
from clustersim.training.price import TrainingCost
from clustersim.training.search import best_step, with_recompute
from clustersim.training.step import memory_of, num_sequences, training_step

SEQ = 4096
LLAMA = load_model("llama-3.1-8b")


def cost(
    num: int = 16, model: str = "llama-3.1-8b", node: str = "hgx-h100", **recipe: object
) -> TrainingCost:
    cluster = TrainingCluster(node=node, num_accelerators=num)
    return TrainingCost(load_model(model), cluster, Recipe.model_validate(recipe), SEQ)


LAYOUTS = st.sampled_from(
    [
        TrainingLayout(tp=2, pp=2, dp=4),
        TrainingLayout(tp=8, dp=2, micro_batch=2),
        TrainingLayout(tp=4, pp=4, virtual_stages=4),
        TrainingLayout(tp=2, cp=2, dp=4),
        TrainingLayout(tp=1, pp=8, dp=2, virtual_stages=2),
    ]
)
RECIPES = st.sampled_from(
    [{"recompute": "full"}, {"recompute": "full", "precision": "fp8"}, {"recompute": "full", "zero": 3}]
)


@settings(max_examples=25, deadline=None)
@given(LAYOUTS, RECIPES, st.integers(4, 70))
def test_parts_add_up_and_no_peak_is_beaten(
    layout: TrainingLayout, recipe: dict[str, object], seqs: int
) -> None:
    step = training_step(cost(**recipe), layout, seqs * SEQ)
    assert math.isclose(sum(step.parts_s.values()), step.step_s)
    assert all(seconds >= -1e-12 for seconds in step.parts_s.values())
    assert 0 < step.mfu < step.hfu < 1
    assert step.mfu < step.mfu_unmasked
    assert math.isclose(sum(step.evidence.values()), 1.0)
    assert 0 < step.memory_use_frac < 1


@settings(max_examples=20, deadline=None)
@given(LAYOUTS, st.sampled_from(["bf16_flops_per_s", "memory_bandwidth_bytes_per_s"]), st.floats(1.0, 4.0))
def test_a_better_machine_is_never_slower(layout: TrainingLayout, figure: str, factor: float) -> None:
    node = load_node("hgx-h100")
    device = node.accelerator
    better = getattr(device, figure).model_copy(update={"value": getattr(device, figure).value * factor})
    other = node.model_copy(update={"accelerator": device.model_copy(update={figure: better})})
    steps = []
    for each in (node, other):
        cluster = TrainingCluster(node=each, num_accelerators=16)
        able = TrainingCost(LLAMA, cluster, Recipe(recompute="full"), SEQ)
        steps.append(training_step(able, layout, 64 * SEQ).step_s)
    assert steps[1] <= steps[0] * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(LAYOUTS, st.floats(0, 1), st.floats(1, 2))
def test_overlap_never_slows_and_slowdown_never_speeds(
    layout: TrainingLayout, share: float, slow: float
) -> None:
    plain = training_step(cost(recompute="full"), layout, 64 * SEQ).step_s
    hidden = cost(recompute="full", overlap=Overlap(tp=share, cp=share))
    assert training_step(hidden, layout, 64 * SEQ).step_s <= plain * (1 + 1e-12)
    assert training_step(cost(recompute="full", slowdown=slow), layout, 64 * SEQ).step_s >= plain * (
        1 - 1e-12
    )


def test_the_bubble_is_that_of_interleaved_1f1b() -> None:
    one = training_step(cost(recompute="full"), TrainingLayout(tp=2, pp=8), 32 * SEQ)
    two = training_step(cost(recompute="full"), TrainingLayout(tp=2, pp=8, virtual_stages=4), 32 * SEQ)
    busy = ("forward", "backward", "recompute", "tp", "cp", "ep", "pp", "imbalance")
    for step, chunks in ((one, 1), (two, 4)):
        stage_s = sum(step.parts_s[part] for part in busy)
        assert math.isclose(step.parts_s["bubble"], 7 / (chunks * 32) * stage_s)


def test_backward_products_do_twice_the_flops_of_forward_ones() -> None:
    for model, layout in (
        ("llama-3.1-8b", TrainingLayout(tp=4)),
        ("deepseek-v2-lite", TrainingLayout(ep=8, dp=8)),
        ("qwen3-30b-a3b", TrainingLayout(tp=2, ep=8, dp=4)),
    ):
        ops = micro_batch_ops(load_model(model), layout, Recipe(), SEQ, np.array([1.0, 3.0]))

        def flops(found: tuple, families: tuple[str, ...]) -> np.ndarray:  # type: ignore[type-arg]
            return sum(op.count * op.flops for op in found if op.family in families)  # type: ignore[no-any-return]

        for families, times in ((("gemm", "moe"), 2.0), (("attention_prefill", "mla_prefill"), 2.5)):
            forward, backward = flops(ops.forward.compute, families), flops(ops.backward.compute, families)
            np.testing.assert_allclose(backward, times * forward)


def test_forward_flops_are_two_a_weight_and_token() -> None:
    ops = micro_batch_ops(LLAMA, TrainingLayout(), Recipe(), SEQ, np.array([1.0]))
    gemm = sum(op.count * op.flops[0] for op in ops.forward.compute if op.family == "gemm")
    head = sum(op.count * op.flops[0] for op in ops.head.compute if op.name == "lm_head")
    assert math.isclose(gemm + head, LLAMA.flops_per_token * SEQ, rel_tol=1e-9)


def test_each_rank_of_a_wider_layout_does_its_share() -> None:
    def flops(layout: TrainingLayout) -> float:
        found = micro_batch_ops(LLAMA, layout, Recipe(), SEQ, np.array([1.0]))
        return float(sum(op.count * np.sum(op.flops) for op in (*found.forward.compute, *found.head.compute)))

    whole = flops(TrainingLayout())
    assert math.isclose(flops(TrainingLayout(tp=8)), whole / 8, rel_tol=1e-6)
    assert math.isclose(flops(TrainingLayout(tp=4, cp=4)), whole / 16, rel_tol=1e-6)


def test_activations_are_those_of_korthikanti() -> None:
    """34 h a token and layer in bf16, less the 2 h of dropout masks that these models lack."""
    gpt = load_model("gpt-3-175b")
    assert kept_bytes(gpt, "bf16", "none") == 32 * gpt.hidden_size
    assert kept_bytes(gpt, "bf16", "full") == 2 * gpt.hidden_size
    kept = [kept_bytes(LLAMA, "bf16", how) for how in ("none", "selective", "full")]
    assert sorted(kept, reverse=True) == kept
    assert kept_bytes(LLAMA, "fp8", "none") < kept[0]


def test_zero_shares_out_18_bytes_a_weight() -> None:
    def held(zero: int, dp: int) -> float:
        layout = TrainingLayout(dp=dp)
        memory = training_memory(LLAMA, layout, Recipe(zero=zero), SEQ, 8, 80e9)
        return memory.weights_bytes + memory.gradients_bytes + memory.optimizer_bytes

    params = LLAMA.num_parameters
    assert math.isclose(held(0, 8), 18 * params)
    assert math.isclose(held(1, 8), (6 + 12 / 8) * params)
    assert math.isclose(held(2, 8), (2 + 16 / 8) * params)
    assert held(3, 8) < held(2, 8)
    assert Recipe().state_bytes == 18
    assert Recipe(gradient_bytes=2).state_bytes == 16


def test_what_does_not_fit_is_refused_with_what_does() -> None:
    able = cost(num=8, model="llama-3.1-70b")
    with pytest.raises(InputError, match=r"does not fit.*more accelerators"):
        training_step(able, TrainingLayout(tp=8), 8 * SEQ)
    able = cost(num=64, model="llama-3.1-70b", zero=0)
    layout = TrainingLayout(tp=8, pp=2, dp=4)
    with pytest.raises(InputError, match=r"does not fit.*It fits with recompute: none, zero: 1"):
        training_step(able, layout, 64 * SEQ)


@pytest.mark.parametrize(
    ("layout", "tokens", "said"),
    [
        (TrainingLayout(tp=8), 64 * SEQ, "not the 16 accelerators; use dp 2"),
        (TrainingLayout(tp=3, dp=5), 64 * SEQ, "tp 3 does not divide the 32 attention heads"),
        (TrainingLayout(dp=16), 64 * SEQ + 1, "no whole number of sequences of 4096; the nearest is 262144"),
        (TrainingLayout(dp=16), 8 * SEQ, "leaves some of dp 16 idle"),
        (TrainingLayout(dp=16, virtual_stages=2), 64 * SEQ, "needs pp above 1"),
        (TrainingLayout(pp=16, virtual_stages=4), 64 * SEQ, "virtual_stages: 1 to 2"),
        (TrainingLayout(dp=16, ep=8), 64 * SEQ, "has no experts"),
    ],
)
def test_layouts_that_cannot_be_are_refused(layout: TrainingLayout, tokens: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        training_step(cost(), layout, tokens)


def test_a_device_without_the_format_is_refused() -> None:
    with pytest.raises(InputError, match="does not multiply in fp8"):
        training_step(cost(node="dgx-a100", precision="fp8"), TrainingLayout(dp=16), 64 * SEQ)


def test_the_search_finds_the_fastest_of_all_layouts() -> None:
    able = cost(num=16)
    num = num_sequences(able, 64 * SEQ)
    found, best = best_step(able, 64 * SEQ)
    assert best.memory.fits
    assert memory_of(found, best.layout, num).fits
    for tp in (1, 2, 4, 8):
        for pp in (1, 2, 4, 8):
            for micro in (1, 2, 4):
                if 16 % (tp * pp):
                    continue
                layout = TrainingLayout(tp=tp, pp=pp, dp=16 // (tp * pp), micro_batch=micro)
                other = with_recompute(able, layout, num)
                if other and layout.dp * micro <= num:
                    assert best.step_s <= training_step(other, layout, 64 * SEQ).step_s * (1 + 1e-9)


def test_the_search_refuses_what_fits_nowhere() -> None:
    with pytest.raises(InputError, match="in no layout"):
        best_step(cost(num=8, model="llama-3.1-405b"), 64 * SEQ)


def test_experts_are_trained_too() -> None:
    found, best = best_step(cost(num=32, model="qwen3-30b-a3b", precision="fp8"), 512 * SEQ)
    assert best.layout.ep > 1
    assert 0.05 < best.mfu < 0.6
    assert found.recipe.precision == "fp8"
