from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clustersim import library
from clustersim.errors import InputError
from clustersim.kinds import Value
from clustersim.models.hf_config import ModelRef, from_hf_config, load_model
from clustersim.models.spec import GroupedQueryAttention, ModelSpec


class Holder(Value):
    model: ModelRef


def config_of(name: str, **changes: Any) -> dict[str, Any]:
    return {**json.loads(library.find("models", name).read_text(encoding="utf-8")), **changes}


@pytest.mark.parametrize("name", library.names("models"))
def test_a_resolved_model_is_self_contained(name: str) -> None:
    held = Holder.model_validate({"model": name})
    written = json.loads(held.model_dump_json())
    assert Holder.model_validate(written) == held
    assert held.model == load_model(name) == ModelSpec.model_validate(written["model"])
    assert "_source" in config_of(name)


@pytest.mark.parametrize(
    ("given", "name"),
    [("deepseek-ai/DeepSeek-R1", "deepseek-r1"), ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
     ("Meta-Llama-3.1-70B", "llama-3.1-70b"), ("QWEN3-32B", "qwen3-32b"), ("Qwen/QwQ-32B", "qwen2.5-32b"),
     ("moonshotai/Kimi-K2-Instruct", "kimi-k2"), ("openai/gpt-oss-120b", "gpt-oss-120b")],
)  # fmt: skip
def test_names_as_hugging_face_writes_them(given: str, name: str) -> None:
    assert load_model(given) is load_model(name)


def test_a_path_a_folder_and_an_inline_config(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of("qwen3-8b")), encoding="utf-8")
    by_folder, by_file = load_model(str(folder)), load_model(str(folder / "config.json"))
    assert by_folder == by_file == load_model("qwen3-8b").model_copy(update={"name": "my-model"})
    inline = Holder.model_validate({"model": config_of("qwen3-8b")}).model
    assert inline.num_parameters == by_file.num_parameters


@pytest.mark.parametrize(
    ("name", "weights", "scope"),
    [("deepseek-r1", "fp8_block", "linear"), ("kimi-k2", "fp8_block", "linear"),
     ("gpt-oss-20b", "mxfp4", "experts"), ("llama-3.1-8b", "bf16", "linear")],
)  # fmt: skip
def test_native_precision(name: str, weights: str, scope: str) -> None:
    native = load_model(name).native_precision
    assert (native.weights, native.scope, native.kv_cache) == (weights, scope, "bf16")


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        ValidationError, match=r'no model "deepseek-r2".*Did you mean "deepseek-r1".*clustersim list'
    ):
        Holder.model_validate({"model": "deepseek-r2"})


def test_every_missing_key_is_named() -> None:
    config = config_of("llama-3.1-8b", num_attention_heads="32", tie_word_embeddings="no")
    del config["vocab_size"], config["intermediate_size"]
    with pytest.raises(InputError) as caught:
        from_hf_config(config, "x", "x/config.json")
    assert [str(problem) for problem in caught.value.problems] == [
        "x/config.json: vocab_size: is missing",
        "x/config.json: tie_word_embeddings: 'no' is not true or false",
        "x/config.json: num_attention_heads: '32' is not a whole number of at least 1",
        "x/config.json: intermediate_size: is missing",
    ]


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("llama-3.1-8b", {"architectures": ["LlamaForCausalLLM"]}, 'Did you mean "LlamaForCausalLM"'),
        ("llama-3.1-8b", {"architectures": None}, "no architecture"),
        ("llama-3.1-8b", {"num_key_value_heads": 5}, "num_key_value_heads: 5 does not divide"),
        ("llama-3.1-8b", {"torch_dtype": "int3"}, "torch_dtype: no data type"),
        ("llama-3.1-8b", {"architectures": ["MiniMaxText01ForCausalLM"]}, "lightning"),
        ("minimax-m2.5", {"attn_type_list": [0, 1]}, "lightning"),
        ("mixtral-8x7b", {"num_experts_per_tok": 9}, "num_experts_per_tok: 9 is above num_local_experts"),
        ("deepseek-v3", {"moe_layer_freq": 2}, "moe_layer_freq"),
        ("gpt-oss-20b", {"layer_types": ["linear_attention"] * 24}, "layer_types: no layer type"),
        ("gpt-oss-20b", {"sliding_window": None}, "sliding_window: is null"),
        ("qwen3-30b-a3b", {"mlp_only_layers": [4]}, "mlp_only_layers"),
        (
            "qwen3-8b",
            {"quantization_config": {"quant_method": "nf4"}},
            "quantization_config: no quantization",
        ),
    ],
)
def test_odd_configs_are_refused(name: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=r"my/config\.json: ") as caught:
        from_hf_config(config_of(name, **changes), "my", "my/config.json")
    assert why in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": 1,\n "b": }', encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.json:2: not valid JSON"):
        load_model(str(broken))
    with pytest.raises(InputError, match="does not exist"):
        load_model("./nowhere/config.json")


def test_gpt2_and_a_qwen2_with_windows() -> None:
    gpt2 = {"architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_layer": 12, "n_head": 12}
    gpt2 |= {"vocab_size": 50257, "n_positions": 1024}
    assert from_hf_config(gpt2, "gpt2", "config.json").num_parameters == 124_439_808
    windowed = config_of("qwen2.5-7b", use_sliding_window=True, sliding_window=4096, max_window_layers=20)
    spec = from_hf_config(windowed, "windowed", "config.json")
    assert isinstance(spec.attention, GroupedQueryAttention)
    assert (spec.num_window_layers, spec.is_windowed(19), spec.is_windowed(20)) == (8, False, True)


def test_a_quantisation_stated_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of("qwen3-8b")), encoding="utf-8")
    stated = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": stated}), encoding="utf-8")
    native = load_model(str(tmp_path)).native_precision
    assert (native.weights, native.kv_cache, native.scope) == ("nvfp4", "fp8", "linear")
