from __future__ import annotations

import pytest
from pydantic import ValidationError

from clustersim.errors import InputError
from clustersim.models.precision import (
    FORMATS,
    Precision,
    bytes_per_element,
    compute_dtype,
    from_quantization_config,
)


@pytest.mark.parametrize(
    ("name", "size"),
    [("fp32", 4), ("bf16", 2), ("fp16", 2), ("fp8", 1), ("int8", 1), ("mxfp4", 0.53125), ("nvfp4", 0.5625),
     ("fp4", 0.5625), ("int4", 0.51953125), ("int4_group32", 0.5625), ("fp8_block", 1 + 4 / 16384)],
)  # fmt: skip
def test_bytes_include_the_scales(name: str, size: float) -> None:
    assert bytes_per_element(name) == size


@pytest.mark.parametrize(
    ("weights", "activations", "dtype"),
    [("bf16", None, "bf16"), ("fp16", None, "bf16"), ("fp8_block", None, "fp8"), ("int4", None, "bf16"),
     ("mxfp4", None, "bf16"), ("nvfp4", None, "fp4"), ("fp8", "bf16", "bf16"), ("mxfp4", "fp8", "fp8"),
     ("mxfp4", "mxfp4", "fp4"), ("nvfp4", "nvfp4", "fp4")],
)  # fmt: skip
def test_the_wider_operand_sets_the_compute_type(weights: str, activations: str | None, dtype: str) -> None:
    assert compute_dtype(weights, activations) == dtype


def test_a_bare_name_is_a_preset() -> None:
    fp8 = Precision.model_validate("fp8")
    assert (fp8.weights, fp8.activations, fp8.kv_cache, fp8.compute) == ("fp8", "fp8", "bf16", "fp8")
    assert Precision.model_validate("mxfp4").scope == "experts"
    assert Precision.model_validate("fp16").kv_cache == "fp16"
    own = Precision.model_validate({"weights": "int4", "kv_cache": "fp8"})
    assert (own.weights, own.activations, own.kv_cache) == ("int4", "bf16", "fp8")


@pytest.mark.parametrize("name", FORMATS)
def test_a_precision_survives_writing(name: str) -> None:
    precision = Precision.model_validate(name)
    assert Precision.model_validate(precision.model_dump(mode="json")) == precision
    assert hash(precision) == hash(Precision.model_validate(name))


def test_what_is_quantised() -> None:
    fp8 = Precision.model_validate("fp8")
    assert fp8.format_of("attention") == fp8.format_of("expert") == "fp8"
    for kind in ("embedding", "norm", "router", "lm_head"):
        assert fp8.format_of(kind) == "bf16"
    assert fp8.format_of("attention", is_matrix=False) == "bf16"
    head = Precision.model_validate({"weights": "fp8", "scope": "linear_and_head"})
    assert head.format_of("lm_head") == "fp8"
    mxfp4 = Precision.model_validate("mxfp4")
    assert (mxfp4.format_of("expert"), mxfp4.format_of("attention")) == ("mxfp4", "bf16")


def test_an_unknown_format_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match=r'no number format "fp9".*Did you mean.*"fp8"'):
        Precision.model_validate("fp9")
    with pytest.raises(InputError, match="Choices"):
        bytes_per_element("q4_k_m")


@pytest.mark.parametrize(
    ("config", "weights", "activations", "scope"),
    [
        ({}, "bf16", "bf16", "linear"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block", "fp8", "linear"),
        ({"quant_method": "fp8"}, "fp8", "fp8", "linear"),
        ({"quant_method": "mxfp4"}, "mxfp4", "bf16", "experts"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", "bf16", "linear"),
        ({"quant_method": "modelopt", "ignore": ["model.layers.0.self_attn*"], "config_groups": {"g": {
            "weights": {"num_bits": 4, "type": "float", "group_size": 16},
            "input_activations": {"num_bits": 4}}}}, "nvfp4", "nvfp4", "experts"),
        ({"quant_method": "compressed-tensors", "ignore": ["re:.*self_attn.*"], "config_groups": {"g": {
            "weights": {"num_bits": 4, "type": "int", "group_size": 32},
            "input_activations": None}}}, "int4_group32", "bf16", "experts"),
    ],
)  # fmt: skip
def test_quantization_configs(config: dict[str, object], weights: str, activations: str, scope: str) -> None:
    found = from_quantization_config(config, "bfloat16", "config.json: quantization_config")
    assert (found.weights, found.activations, found.scope) == (weights, activations, scope)


@pytest.mark.parametrize(
    "config", [{"quant_method": "bitsandbytes"}, {"quant_method": "gptq", "bits": 3, "group_size": 128}]
)
def test_an_unknown_quantisation_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"config\.json: quantization_config: .*"):
        from_quantization_config(config, "bfloat16", "config.json: quantization_config")
