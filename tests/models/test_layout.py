from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clustersim import library
from clustersim.models.hf_config import load_model
from clustersim.models.layout import (
    Parallelism,
    activation_bytes,
    check_layout,
    kv_bytes_per_token_per_rank,
    stages,
    weight_bytes_per_rank,
)
from clustersim.models.precision import Precision, bytes_per_element
from clustersim.models.spec import tensors

BF16, FP8 = Precision.model_validate("bf16"), Precision.model_validate("fp8")
names = st.sampled_from(library.names("models"))
precisions = st.sampled_from(["bf16", "fp8", "fp8_block", "mxfp4", "int4"]).map(Precision.model_validate)
powers = st.sampled_from([1, 2, 4, 8, 16])


@given(names, powers, st.integers(1, 8), powers, powers, precisions)
def test_ranks_hold_at_least_the_whole_model(
    name: str, tp: int, pp: int, ep: int, dp: int, precision: Precision
) -> None:
    spec, cut = load_model(name), Parallelism(tp=tp, pp=pp, ep=ep, attention_dp=dp)
    assume(not check_layout(spec, cut))
    whole = sum(
        tensor.num_params * len(spec.layers(tensor.where))
        * bytes_per_element(precision.format_of(tensor.kind, tensor.is_matrix))
        for tensor in tensors(spec)
    )  # fmt: skip
    each = [sum(weight_bytes_per_rank(spec, cut, precision, stage).values()) for stage in range(pp)]
    assert sum(each) * cut.stage_size >= whole * (1 - 1e-12)
    assert sum(weight_bytes_per_rank(spec, cut, precision).values()) == max(each)
    full, windowed, window = kv_bytes_per_token_per_rank(spec, cut, precision)
    assert (full + windowed) * tp * pp >= spec.kv_bytes_per_token(precision.kv_cache) * (1 - 1e-12)
    assert (window is None) == (spec.num_window_layers == 0)


@given(names, st.sampled_from([1, 2, 4]), precisions)
def test_twice_the_ranks_halve_what_can_be_cut(name: str, tp: int, precision: Precision) -> None:
    spec, one, two = load_model(name), Parallelism(tp=tp), Parallelism(tp=2 * tp)
    assume(not check_layout(spec, one) and not check_layout(spec, two))
    before, after = (weight_bytes_per_rank(spec, cut, precision) for cut in (one, two))
    assert before.keys() == after.keys()
    for kind, held in before.items():
        if kind == "lm_head":
            assert after[kind] == pytest.approx(held / 2)
        elif kind in ("norm", "router"):
            assert after[kind] == held
        else:  # biases of outputs and low-rank projections are copied
            assert held / 2 * (1 - 1e-12) <= after[kind] < held


@given(st.integers(1, 126), st.integers(1, 40))
def test_stages_cover_the_layers_evenly(num_layers: int, pp: int) -> None:
    assume(pp <= num_layers)
    spec = load_model("llama-3.1-8b").model_copy(update={"num_layers": num_layers})
    cut = stages(spec, Parallelism(pp=pp))
    assert [layer for stage in cut for layer in stage] == list(range(num_layers))
    assert {len(stage) for stage in cut} <= {num_layers // pp, num_layers // pp + 1}


def test_known_sizes() -> None:
    v3 = load_model("deepseek-v3")
    native = sum(weight_bytes_per_rank(v3, Parallelism(), v3.native_precision).values())
    assert native / 1e9 == pytest.approx(673.2, rel=2e-3)  # 671 GB fp8, embeddings and head in bf16, scales
    gpt_oss = load_model("gpt-oss-120b")
    # The checkpoint is 60.8 GiB (gpt-oss model card, arXiv:2508.10925, table 1).
    stored = sum(weight_bytes_per_rank(gpt_oss, Parallelism(), gpt_oss.native_precision).values())
    assert stored / 2**30 == pytest.approx(60.8, rel=5e-3)
    wide = Parallelism(attention_dp=32, ep=32)
    held = weight_bytes_per_rank(v3, wide, v3.native_precision)
    whole = weight_bytes_per_rank(v3, Parallelism(), v3.native_precision)
    assert held["expert"] == pytest.approx(whole["expert"] / 32)
    assert held["attention"] == whole["attention"]


def test_kv_on_a_rank() -> None:
    llama, v3, gpt_oss = (load_model(name) for name in ("llama-3.1-8b", "deepseek-v3", "gpt-oss-120b"))
    assert kv_bytes_per_token_per_rank(llama, Parallelism(tp=4), BF16) == (32 * 1024, 0, None)
    assert kv_bytes_per_token_per_rank(llama, Parallelism(tp=16), BF16)[0] == 16 * 1024  # one head, copied
    assert kv_bytes_per_token_per_rank(v3, Parallelism(tp=8), BF16)[0] == v3.kv_bytes_per_token()
    assert kv_bytes_per_token_per_rank(gpt_oss, Parallelism(), FP8) == (36864, 36864, 128)
    assert kv_bytes_per_token_per_rank(llama, Parallelism(pp=3), BF16)[0] == 11 * 4096


def test_a_tied_table_is_copied_to_the_last_stage() -> None:
    spec = load_model("qwen3-0.6b")
    first, last = (weight_bytes_per_rank(spec, Parallelism(pp=2), BF16, stage) for stage in (0, 1))
    assert first["embedding"] == last["lm_head"] == spec.vocab_size * spec.hidden_size * 2


@pytest.mark.parametrize(
    ("name", "cut", "why"),
    [
        (
            "llama-3.1-8b",
            {"tp": 3},
            "tp 3 does not divide the 32 attention heads; choices: 1, 2, 4, 8, 16, 32",
        ),
        (
            "llama-4-scout",
            {"tp": 5},
            "tp 5 neither divides nor is a multiple of the 8 KV heads; choices: 1, 2, 4, 8",
        ),
        ("llama-3.1-8b", {"pp": 33}, "pp 33 is above the 32 layers"),
        ("llama-3.1-8b", {"ep": 2}, "has no experts"),
        ("llama-3.1-8b", {"attention_dp": 2}, "use 2 replicas"),
        ("deepseek-v3", {"tp": 8, "ep": 3}, "choices: 1, 2, 4, 8"),
        ("mixtral-8x7b", {"tp": 8, "attention_dp": 2, "ep": 16}, "ep 16 must divide the 8 experts"),
    ],
)
def test_impossible_layouts(name: str, cut: dict[str, int], why: str) -> None:
    found = check_layout(load_model(name), Parallelism(**cut))
    assert any(why in problem for problem in found), found


def test_a_precision_without_effect_is_a_problem() -> None:
    mxfp4 = Precision.model_validate("mxfp4")
    assert "has none" in check_layout(load_model("llama-3.1-8b"), Parallelism(), mxfp4)[0]
    assert check_layout(load_model("gpt-oss-20b"), Parallelism(), mxfp4) == []


def test_block_scales_limit_the_cut() -> None:
    spec, cut = load_model("qwen3-30b-a3b"), Parallelism(tp=4)
    assert check_layout(spec, cut, FP8) == []
    blocks = Precision.model_validate("fp8_block")
    assert "larger ep" in check_layout(spec, cut, blocks)[0]
    assert check_layout(spec, Parallelism(tp=4, ep=4), blocks) == []


@given(names, st.integers(1, 4096), powers)
def test_working_memory_grows_with_tokens(name: str, tokens: int, tp: int) -> None:
    spec, cut = load_model(name), Parallelism(tp=tp)
    small, large = (activation_bytes(spec, cut, BF16, count) for count in (tokens, 2 * tokens))
    assert 0 < small <= large
    assert large < 200e9


# ---- wide expert parallelism -----------------------------------------------------------------------------------

V3, FP8_BLOCK = load_model("deepseek-v3"), load_model("deepseek-v3").native_precision
#: (layout, experts on a rank): DeepSeek's prefill and decode units (open-infra-index, day 6; DeepSeek-V3,
#: arXiv:2412.19437, 3.4.2: 320 ranks of one expert, attention cut over 4).
WIDE = {
    "prefill": (Parallelism(ep=32, attention_dp=32, redundant_experts=32), 9),
    "decode": (Parallelism(ep=144, attention_dp=144, redundant_experts=32), 2),
    "report": (Parallelism(tp=4, ep=320, attention_dp=80, redundant_experts=64), 1),
}


@pytest.mark.parametrize("unit", WIDE)
def test_deepseeks_units_hold_whole_experts_and_fit_80_gb(unit: str) -> None:
    layout, held = WIDE[unit]
    assert check_layout(V3, layout, FP8_BLOCK) == []
    weights = weight_bytes_per_rank(V3, layout, FP8_BLOCK)
    one = weight_bytes_per_rank(V3, Parallelism(), FP8_BLOCK)["expert"] / 256
    assert weights["expert"] == pytest.approx(held * one)
    assert sum(weights.values()) < 45e9
    assert layout.num_accelerators in (32, 144, 320)


@given(st.sampled_from([1, 2, 4, 8, 16, 32]), st.integers(0, 8))
def test_redundant_experts_add_their_weights_and_nothing_else(ep: int, times: int) -> None:
    plain = weight_bytes_per_rank(V3, Parallelism(ep=ep, attention_dp=ep), FP8_BLOCK)
    more = weight_bytes_per_rank(
        V3, Parallelism(ep=ep, attention_dp=ep, redundant_experts=ep * times), FP8_BLOCK
    )
    assert more.pop("expert") == pytest.approx(plain.pop("expert") * (1 + ep * times / 256))
    assert more == plain


@pytest.mark.parametrize(
    ("name", "cut", "why"),
    [
        ("deepseek-v3", {"ep": 144, "attention_dp": 144}, "or redundant_experts: 32"),
        (
            "deepseek-v3",
            {"ep": 144, "attention_dp": 144, "redundant_experts": 33},
            "256 experts and 33 redundant ones",
        ),
        ("deepseek-v3", {"ep": 8, "attention_dp": 8, "redundant_experts": 8 * 256}, "is above 1792"),
        ("deepseek-v3", {"tp": 8, "redundant_experts": 1}, "is above 0"),
        ("llama-3.1-8b", {"redundant_experts": 8}, "redundant_experts, but llama-3.1-8b has no experts"),
        (
            "deepseek-v3",
            {"tp": 8, "ep": 8, "all_to_all": "deepep_low_latency"},
            "ep and attention_dp above 1",
        ),
        (
            "deepseek-v3",
            {"ep": 8, "attention_dp": 16, "all_to_all": "deepep_high_throughput"},
            "ep 16, not 8",
        ),
        ("deepseek-v3", {"tp": 8, "ep": 8, "two_batch_overlap": True}, "hides the exchange of tokens"),
    ],
)
def test_impossible_exchanges(name: str, cut: dict[str, object], why: str) -> None:
    found = check_layout(load_model(name), Parallelism.model_validate(cut))
    assert any(why in problem for problem in found), found
