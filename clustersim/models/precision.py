"""Number formats of weights, activations and KV cache: bytes an element, and the type they multiply in.

Bytes include the scales that travel with the elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from clustersim.errors import InputError, Problem, unknown
from clustersim.kinds import Value

ComputeDtype = Literal["fp32", "bf16", "fp8", "int8", "fp4"]
TensorKind = Literal["embedding", "attention", "mlp", "expert", "shared_expert", "router", "norm", "lm_head"]
Scope = Literal["experts", "linear", "linear_and_head"]


@dataclass(frozen=True)
class Format:
    """One number format: bits an element with its scales, the type it is multiplied in, and who says so."""

    bits: float
    compute: ComputeDtype
    source: str


#: A weight-only format is multiplied in bf16, because its usual kernels widen it first. fp16 counts as bf16:
#: accelerators multiply both at one rate. Scales of one a tensor or a channel are left out (< 0.1 %).
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "fp32": Format(32, "fp32", "IEEE 754 binary32"),
        "fp16": Format(16, "bf16", "IEEE 754 binary16"),
        "bf16": Format(16, "bf16", "upper half of IEEE 754 binary32"),
        "fp8": Format(8, "fp8", "OCP 8-bit Floating Point Specification 1.0; one scale a tensor"),
        "fp8_block": Format(
            8 + 32 / 128**2, "fp8", "DeepSeek-V3 (arXiv:2412.19437) 3.3: an fp32 scale a 128x128 block"
        ),
        "int8": Format(8, "int8", "SmoothQuant (arXiv:2211.10438), W8A8; one scale a channel"),
        "int4": Format(
            4 + (16 + 4) / 128,
            "bf16",
            "GPTQ (arXiv:2210.17323), AWQ (arXiv:2306.00978): 128 share an fp16 scale and a 4-bit zero",
        ),
        "int4_group32": Format(
            4 + 16 / 32, "bf16", "compressed-tensors W4A16, symmetric: 32 share a bf16 scale"
        ),
        "nvfp4": Format(4 + 8 / 16, "fp4", "NVIDIA NVFP4: 16 E2M1 elements share an E4M3 scale"),
        "mxfp4": Format(
            4 + 8 / 32, "bf16", "OCP Microscaling Formats 1.0: 32 E2M1 elements share an E8M0 scale; as W4A16"
        ),
    }
)  # fmt: skip
_ALIASES = {"fp4": "nvfp4", "bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}

#: Which matrices a scope quantises. Embeddings, norms, biases and the router never are.
SCOPES: Mapping[Scope, frozenset[TensorKind]] = MappingProxyType(
    {
        "experts": frozenset({"expert"}),
        "linear": frozenset({"attention", "mlp", "expert", "shared_expert"}),
        "linear_and_head": frozenset({"attention", "mlp", "expert", "shared_expert", "lm_head"}),
    }
)


def bytes_per_element(name: str) -> float:
    """Return the bytes an element of the format `name` takes, its share of the scales included."""
    return _format(name).bits / 8


def compute_dtype(weights: str, activations: str | None = None) -> ComputeDtype:
    """Return the tensor-core type that multiplies `weights` with `activations`: that of the wider of the two.

    Without `activations` they are those of the preset named by the weights (bf16 for weight-only formats).
    """
    if activations is None:
        return _format(weights).compute
    if _name(weights) == _name(activations) == "mxfp4":
        return "fp4"  # both operands are narrow, so nothing is widened
    return max(_format(weights), _format(activations), key=lambda form: form.bits).compute


def _name(name: str) -> str:
    return _ALIASES.get(name, name)


def _format(name: str) -> Format:
    if _name(name) not in FORMATS:
        raise InputError(unknown("number format", name, FORMATS))
    return FORMATS[_name(name)]


def _known(value: object) -> str:
    if not isinstance(value, str) or _name(value) not in FORMATS:
        raise PydanticCustomError("format", "{why}", {"why": unknown("number format", value, FORMATS)})
    return _name(value)


#: Formats of a KV cache. vLLM (vllm/config/cache.py, CacheDType): 16 bits, fp8, int8, int4, nvfp4; SGLang: fp8, fp4
#: (docs, "Quantized KV Cache"); TensorRT-LLM: fp8, int8, nvfp4. Scales count as with weights: fp8 and int8 none.
KV_FORMATS = ("fp32", "fp16", "bf16", "fp8", "int8", "int4", "nvfp4", "mxfp4")


def _known_of_cache(value: object) -> str:
    name = _known(value)
    if name not in KV_FORMATS:
        why = f'no engine caches keys and values in "{name}"; choices: {", ".join(KV_FORMATS)}'
        raise PydanticCustomError("format", "{why}", {"why": why})
    return name


FormatName = Annotated[str, BeforeValidator(_known, json_schema_input_type=Literal[(*FORMATS, "fp4")])]
KvFormatName = Annotated[
    str, BeforeValidator(_known_of_cache, json_schema_input_type=Literal[(*KV_FORMATS, "fp4")])
]


class Precision(Value):
    """Formats of one deployment; `fp8` alone is a preset: {weights: fp8, activations: fp8, kv_cache: bf16}.

    What is left out follows the weights: 8-bit and nvfp4 weights multiply activations of their own kind, int4
    and mxfp4 ones bf16 activations. The cache keeps the model's own type, as vLLM's `kv_cache_dtype: auto`
    does. mxfp4 quantises the routed experts only, as gpt-oss is published; the others all linear layers.
    """

    weights: FormatName
    """Format of the quantised matrices."""
    activations: FormatName
    """Format in which activations enter those matrices."""
    kv_cache: KvFormatName
    """Format of cached keys and values."""
    scope: Scope = "linear"
    """Which matrices are quantised: routed experts only, all linear layers, or these and the LM head."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"weights": given}
        if not isinstance(given, Mapping) or not isinstance(given.get("weights"), str):
            return given
        weights = _name(given["weights"])
        wide = weights if weights in ("fp32", "fp16") else "bf16"
        narrow = {"fp8": "fp8", "fp8_block": "fp8", "int8": "int8", "nvfp4": "nvfp4"}
        scope = "experts" if weights == "mxfp4" else "linear"
        return {"activations": narrow.get(weights, wide), "kv_cache": wide, "scope": scope, **given}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"enum": [*FORMATS, "fp4"]}, handler(schema)]}

    @property
    def unquantised(self) -> str:
        """The format of what is not quantised: bf16 unless the weights are fp16 or fp32."""
        return self.weights if self.weights in ("fp32", "fp16") else "bf16"

    @property
    def compute(self) -> ComputeDtype:
        """The tensor-core type of the quantised matrix multiplications."""
        return compute_dtype(self.weights, self.activations)

    def format_of(self, kind: TensorKind, is_matrix: bool = True) -> str:
        """Return the format in which a weight tensor of this kind is held (a bias is no matrix)."""
        return self.weights if is_matrix and kind in SCOPES[self.scope] else self.unquantised

    def compute_of(self, kind: TensorKind) -> ComputeDtype:
        """Return the tensor-core type in which the matrices of this kind are multiplied."""
        return self.compute if kind in SCOPES[self.scope] else compute_dtype(self.unquantised)


def from_quantization_config(config: Mapping[str, Any], dtype: str, where: str) -> Precision:
    """Return the precision that a Hugging Face `quantization_config` (and `torch_dtype`) states.

    Raises InputError at `where` for a method or group size that no format here stands for.
    """
    if not config:
        return Precision.model_validate(dtype)
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    groups = config.get("config_groups") or {}
    group: Mapping[str, Any] = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
    given: dict[str, str] = {}
    if method == "mxfp4":
        given["weights"] = "mxfp4"
    elif group.get("weights"):
        given["weights"] = _stored(group["weights"], where)
        given["activations"] = given["weights"] if group.get("input_activations") else "bf16"
    elif method == "fp8":
        given["weights"] = "fp8_block" if config.get("weight_block_size") == [128, 128] else "fp8"
    elif method == "nvfp4":
        given["weights"] = "nvfp4"
    elif method in ("gptq", "awq"):
        scheme = {"type": "int", "num_bits": config.get("bits"), "group_size": config.get("group_size")}
        given |= {"weights": _stored(scheme, where), "activations": "bf16"}
    else:
        known = ("awq", "compressed-tensors", "fp8", "gptq", "modelopt", "mxfp4", "nvfp4")
        raise InputError([Problem(where, unknown("quantization method", method, known))])
    if config.get("kv_cache_scheme"):
        given["kv_cache"] = "fp8"
    skipped = config.get("modules_to_not_convert") or config.get("ignore") or []
    if any("self_attn" in module for module in skipped):
        given["scope"] = "experts"
    return Precision.model_validate(given)


def _stored(scheme: Mapping[str, Any], where: str) -> str:
    """Return the format of a weight scheme {num_bits, type, group_size}."""
    stored = {
        ("float", 8, None): "fp8",
        ("int", 8, None): "int8",
        ("int", 4, 128): "int4",
        ("int", 4, 32): "int4_group32",
        ("float", 4, 16): "nvfp4",
        ("float", 4, 32): "mxfp4",
    }
    bits, size = scheme.get("num_bits"), scheme.get("group_size")
    key = (scheme.get("type"), bits, size if bits == 4 else None)
    if key not in stored:
        choices = ", ".join(f"{b}-bit {t}" + (f" in groups of {g}" if g else "") for t, b, g in stored)
        raise InputError(
            [
                Problem(
                    where,
                    f"{bits}-bit {key[0]} weights in groups of {size} have no format here; known: {choices}",
                )
            ]
        )
    return stored[key]
