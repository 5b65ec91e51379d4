from __future__ import annotations

import csv
from pathlib import Path

import pytest

from clustersim import library
from clustersim.models.hf_config import load_model
from clustersim.models.spec import GroupedQueryAttention, ModelSpec, tensors

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "models.csv"

#: Counts to the last parameter, against drift; rounded, they are the figures of the model cards.
EXACT = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-32b": 32_763_876_352,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mixtral-8x7b": 46_702_792_704,
    "mistral-nemo-12b": 12_247_782_400,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_419_200,
    "kimi-k2": 1_026_408_232_448,
}
#: Published figures: billions in all, billions active, cached elements a token.
PUBLISHED = {
    "llama-3.1-8b": (8.03, 8.03, 65536),
    "llama-3.1-405b": (405.9, 405.9, 258048),
    "deepseek-v3": (671.0, 37.5, 35136),
    "gpt-oss-120b": (116.8, 5.7, 36864),
    "kimi-k2": (1026, 32.9, 35136),
    "mixtral-8x7b": (46.7, 12.9, 65536),
    "gpt-3-175b": (174.6, 174.6, 2359296),
}


@pytest.mark.parametrize("name", EXACT)
def test_parameters_to_the_last_one(name: str) -> None:
    assert load_model(name).num_parameters == EXACT[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name: str) -> None:
    spec, (total, active, kv) = load_model(name), PUBLISHED[name]
    assert spec.num_parameters / 1e9 == pytest.approx(total, rel=2e-3)
    assert spec.num_active_parameters / 1e9 == pytest.approx(active, rel=3e-3)
    assert spec.kv_elements_per_token == kv


def test_kv_bytes() -> None:
    assert load_model("llama-3.1-8b").kv_bytes_per_token() == 128 * 1024
    assert load_model("deepseek-v3").kv_bytes_per_token("bf16") / 1024 == pytest.approx(68.6, abs=0.05)
    assert load_model("llama-3.1-8b").kv_bytes_per_token("fp8") == 64 * 1024


def reference_rows() -> list[dict[str, str]]:
    if not REFERENCE.is_file():
        return []
    with REFERENCE.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(
    not REFERENCE.is_file(), reason="the reference table of models is not beside this checkout"
)
def test_every_model_of_the_reference_table() -> None:
    rows = reference_rows()
    assert {load_model(row["name"].split(" (")[0]).name for row in rows} == set(library.names("models"))
    for row in rows:
        spec = load_model(row["name"].split(" (")[0])
        # Half a per mille, and half of the last digit printed; GPT-3's head is tied here (0.33 % less).
        loose = {"rel": 5e-3 if spec.family == "gpt2" else 5e-4, "abs": 5e-4}
        assert spec.num_parameters / 1e9 == pytest.approx(float(row["params_total_B"]), **loose), spec.name
        assert spec.num_active_parameters / 1e9 == pytest.approx(float(row["params_active_B"]), **loose), (
            spec.name
        )
        flops = spec.flops_per_token / 2e9
        assert flops == pytest.approx(float(row["flops_params_per_token_B"]), **loose), spec.name
        assert spec.kv_elements_per_token == int(row["kv_elems_per_token"]), spec.name
        assert spec.max_context == int(row["ctx"]), spec.name


@pytest.mark.parametrize("name", library.names("models"))
def test_sums_agree(name: str) -> None:
    spec = load_model(name)
    assert spec.num_active_parameters <= spec.num_parameters
    assert spec.flops_per_token <= 2 * spec.num_active_parameters
    assert spec.attention_params_per_layer * spec.num_layers < spec.num_active_parameters
    assert len(spec.layers("dense")) + len(spec.layers("moe")) == spec.num_layers
    assert all(tensor.is_matrix for tensor in tensors(spec) if tensor.quantised)


def test_which_layers_are_windowed() -> None:
    gpt_oss, llama4 = load_model("gpt-oss-120b"), load_model("llama-4-scout")
    assert [gpt_oss.is_windowed(layer) for layer in range(4)] == [True, False, True, False]
    assert gpt_oss.num_window_layers == 18
    assert [llama4.is_windowed(layer) for layer in range(4)] == [True, True, True, False]
    assert load_model("deepseek-v3").num_window_layers == 0


def test_which_layers_have_experts() -> None:
    assert load_model("deepseek-v3").layers("dense") == (0, 1, 2)
    assert load_model("llama-4-maverick").layers("moe") == tuple(range(1, 48, 2))
    assert load_model("llama-4-scout").layers("dense") == ()


def test_shapes_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="num_kv_heads"):
        GroupedQueryAttention(num_heads=8, num_kv_heads=3, head_dim=64)
    with pytest.raises(ValueError, match="need each other"):
        GroupedQueryAttention(num_heads=8, num_kv_heads=8, head_dim=64, sliding_window=128)
    spec = load_model("llama-3.1-8b").model_dump(mode="json")
    with pytest.raises(ValueError, match="intermediate_size is needed"):
        ModelSpec.model_validate({**spec, "intermediate_size": None})
