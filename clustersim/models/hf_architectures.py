"""One reader for each Hugging Face architecture: which keys of its `config.json` make a `ModelSpec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from clustersim.errors import Problem, unknown
from clustersim.models.spec import GroupedQueryAttention, MixtureOfExperts, MultiHeadLatentAttention

_MISSING: Any = object()


class ConfigKeys:
    """One config's keys; what is missing or odd is collected, so that one error tells it all."""

    def __init__(self, data: Mapping[str, Any], file: str) -> None:
        self.data, self.file = data, file
        self.problems: list[Problem] = []

    def refuse(self, key: str, what: str) -> None:
        """Note that `key` cannot be used."""
        self.problems.append(Problem(f"{self.file}: {key}", what))

    def count(self, *keys: str, default: Any = _MISSING, least: int = 1) -> Any:
        """Return the whole number under the first key given, or `default` (also for null); refuse others."""
        for key in keys:
            value = self.data.get(key)
            if value is None:
                continue
            if isinstance(value, int) and not isinstance(value, bool) and value >= least:
                return value
            self.refuse(key, f"{value!r} is not a whole number of at least {least}")
            return 1
        if default is _MISSING:
            self.refuse(keys[0], "is null" if keys[0] in self.data else "is missing")
            return 1
        return default

    def items(self, key: str) -> list[Any]:
        """Return the list under `key`, empty if it is not given."""
        value = self.data.get(key) or []
        if not isinstance(value, list):
            self.refuse(key, f"{value!r} is not a list")
        return value if isinstance(value, list) else []

    def flag(self, key: str, default: bool = False) -> bool:
        """Return the yes or no under `key`, or `default`; null is no."""
        value = self.data.get(key, default)
        if not isinstance(value, bool | None):
            self.refuse(key, f"{value!r} is not true or false")
        return bool(value)


def _common(keys: ConfigKeys, tied: bool = False) -> dict[str, Any]:
    return {
        "num_layers": keys.count("num_hidden_layers", "n_layer"),
        "hidden_size": keys.count("hidden_size", "n_embd"),
        "vocab_size": keys.count("vocab_size"),
        "max_context": keys.count("max_position_embeddings", "n_positions", "n_ctx"),
        "tied_embeddings": keys.flag("tie_word_embeddings", tied),
    }


def _attention(keys: ConfigKeys, windows: Sequence[bool] = (), **fields: Any) -> GroupedQueryAttention:
    heads = keys.count("num_attention_heads", "n_head")
    hidden = keys.count("hidden_size", "n_embd")
    kv_heads = keys.count("num_key_value_heads", default=heads)
    head_dim = keys.count("head_dim", default=0)
    if not head_dim and hidden % heads and not keys.problems:
        keys.refuse("head_dim", f"is missing, and {heads} heads do not divide hidden_size ({hidden})")
    if heads % kv_heads:
        if not keys.problems:  # else `heads` may be a stand-in
            keys.refuse("num_key_value_heads", f"{kv_heads} does not divide num_attention_heads ({heads})")
        kv_heads = heads
    window = keys.count("sliding_window", "attention_chunk_size") if any(windows) else None
    return GroupedQueryAttention(
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim or max(1, hidden // heads),
        sliding_window=window,
        window_pattern=_period(windows) if window else (),
        **fields,
    )


def _period(pattern: Sequence[bool]) -> tuple[bool, ...]:
    """Return the shortest beginning of `pattern` that, repeated, gives all of it."""
    for length in range(1, len(pattern)):
        if all(item == pattern[index % length] for index, item in enumerate(pattern)):
            return tuple(pattern[:length])
    return tuple(pattern)


def _windows(keys: ConfigKeys, default: Callable[[int], bool]) -> list[bool]:
    """Say of each layer whether it is windowed: as `layer_types` lists it, else as `default` has it."""
    num_layers = keys.count("num_hidden_layers")
    types = keys.items("layer_types")
    if not types:
        return [default(layer) for layer in range(num_layers)]
    known = {"full_attention": False, "sliding_attention": True, "chunked_attention": True}
    odd = [kind for kind in types if kind not in known]
    if odd or len(types) != num_layers:
        keys.refuse(
            "layer_types", unknown("layer type", odd[0], known) if odd else f"must list {num_layers} layers"
        )
        return []
    return [known[kind] for kind in types]


def _experts(keys: ConfigKeys, experts_key: str, **fields: Any) -> MixtureOfExperts:
    num_experts = keys.count(experts_key)
    top_k = keys.count("num_experts_per_tok", "experts_per_token")
    if top_k > num_experts:
        if not keys.problems:
            keys.refuse("num_experts_per_tok", f"{top_k} is above {experts_key} ({num_experts})")
        top_k = 1
    return MixtureOfExperts(num_experts=num_experts, top_k=top_k, **fields)


def _llama(keys: ConfigKeys) -> dict[str, Any]:
    bias = keys.flag("attention_bias")
    return _common(keys) | {
        "attention": _attention(keys, qkv_bias=bias, output_bias=bias),
        "intermediate_size": keys.count("intermediate_size"),
        "mlp_bias": keys.flag("mlp_bias"),
    }


def _mistral(keys: ConfigKeys) -> dict[str, Any]:
    windowed = keys.data.get("sliding_window") is not None
    return _common(keys) | {
        "attention": _attention(keys, _windows(keys, lambda _: windowed)),
        "intermediate_size": keys.count("intermediate_size"),
    }


def _mixtral(keys: ConfigKeys) -> dict[str, Any]:
    moe = _experts(keys, "num_local_experts", expert_intermediate_size=keys.count("intermediate_size"))
    return _mistral(keys) | {"intermediate_size": None, "moe": moe}


def _qwen_windows(keys: ConfigKeys) -> list[bool]:
    used, first = keys.flag("use_sliding_window"), keys.count("max_window_layers", default=0, least=0)
    return _windows(keys, lambda layer: used and layer >= first)


def _qwen2(keys: ConfigKeys) -> dict[str, Any]:
    return _common(keys) | {
        "attention": _attention(keys, _qwen_windows(keys), qkv_bias=True),
        "intermediate_size": keys.count("intermediate_size"),
    }


def _qwen3(keys: ConfigKeys) -> dict[str, Any]:
    bias = keys.flag("attention_bias")
    return _common(keys) | {
        "attention": _attention(
            keys, _qwen_windows(keys), qkv_bias=bias, output_bias=bias, qk_norm="per_head"
        ),
        "intermediate_size": keys.count("intermediate_size"),
    }


def _qwen3_moe(keys: ConfigKeys) -> dict[str, Any]:
    dense = keys.items("mlp_only_layers")
    if dense != list(range(len(dense))):
        keys.refuse("mlp_only_layers", f"{dense}: only leading dense layers (0, 1, ...) are modelled")
    moe = _experts(
        keys,
        "num_experts",
        expert_intermediate_size=keys.count("moe_intermediate_size"),
        num_dense_layers=len(dense),
        every=keys.count("decoder_sparse_step", default=1),
    )
    return _qwen3(keys) | {"moe": moe}


def _deepseek(keys: ConfigKeys) -> dict[str, Any]:
    if keys.flag("attention_bias"):
        keys.refuse("attention_bias", "is true; biases in latent attention are not modelled")
    if keys.count("moe_layer_freq", default=1) != 1:
        keys.refuse("moe_layer_freq", "only 1 (experts in every layer after the dense ones) is modelled")
    width = keys.count("moe_intermediate_size")
    shared = keys.count("n_shared_experts", default=0, least=0)
    return _common(keys) | {
        "attention": MultiHeadLatentAttention(
            num_heads=keys.count("num_attention_heads"),
            q_lora_rank=keys.count("q_lora_rank", default=None),
            kv_lora_rank=keys.count("kv_lora_rank"),
            qk_nope_head_dim=keys.count("qk_nope_head_dim"),
            qk_rope_head_dim=keys.count("qk_rope_head_dim"),
            v_head_dim=keys.count("v_head_dim"),
        ),
        "intermediate_size": keys.count("intermediate_size"),
        "moe": _experts(
            keys,
            "n_routed_experts",
            expert_intermediate_size=width,
            num_shared_experts=shared,
            shared_intermediate_size=width if shared else 0,
            num_dense_layers=keys.count("first_k_dense_replace", default=0, least=0),
            router_bias=keys.data.get("topk_method") == "noaux_tc",
            **_groups(keys),
        ),
    }


def _groups(keys: ConfigKeys) -> dict[str, int]:
    """Return the groups of experts, of which a token's come from a few; one where the router knows none."""
    if keys.data.get("topk_method") not in ("noaux_tc", "group_limited_greedy"):
        return {}
    groups, top = keys.count("n_group", default=1), keys.count("topk_group", default=1)
    num_experts, top_k = keys.count("n_routed_experts"), keys.count("num_experts_per_tok")
    if num_experts % groups or top > groups or top * (num_experts // groups) < top_k:
        if not keys.problems:
            keys.refuse(
                "n_group",
                f"{num_experts} experts, {top_k} a token, cannot come from {top} of {groups} groups",
            )
        return {}
    return {"num_groups": groups, "top_groups": top}


def _gpt_oss(keys: ConfigKeys) -> dict[str, Any]:
    windows = _windows(keys, lambda layer: layer % 2 == 0)
    moe = _experts(
        keys,
        "num_local_experts",
        expert_intermediate_size=keys.count("intermediate_size"),
        expert_bias=True,
        router_bias=True,
    )
    return _common(keys) | {
        "attention": _attention(keys, windows, qkv_bias=True, output_bias=True, sinks=True),
        "moe": moe,
    }


def _minimax_m2(keys: ConfigKeys) -> dict[str, Any]:
    if not all(keys.items("attn_type_list")):
        keys.refuse("attn_type_list", _LIGHTNING)
    if keys.count("shared_intermediate_size", default=0, least=0):
        keys.refuse("shared_intermediate_size", "shared experts are not modelled for this architecture")
    moe = _experts(
        keys,
        "num_local_experts",
        expert_intermediate_size=keys.count("intermediate_size"),
        router_bias=keys.flag("use_routing_bias"),
    )
    qk_norm = str(keys.data.get("qk_norm_type", "per_layer")) if keys.flag("use_qk_norm") else "none"
    if qk_norm not in ("none", "per_layer", "per_head"):
        keys.refuse("qk_norm_type", unknown("norm", qk_norm, ("per_layer", "per_head")))
        qk_norm = "none"
    return _common(keys) | {"attention": _attention(keys, qk_norm=qk_norm), "moe": moe}


def _llama4(keys: ConfigKeys) -> dict[str, Any]:
    # Three of four layers attend within chunks; a chunk is counted as a window, an upper bound of its cache.
    chunked = keys.data.get("attention_chunk_size") is not None
    windows = _windows(keys, lambda layer: (layer + 1) % 4 != 0) if chunked else []
    width = keys.count("intermediate_size")
    moe = _experts(
        keys,
        "num_local_experts",
        expert_intermediate_size=width,
        num_shared_experts=1,
        shared_intermediate_size=width,
        every=keys.count("interleave_moe_layer_step", default=1),
    )
    bias = keys.flag("attention_bias")
    return _common(keys) | {
        "attention": _attention(keys, windows, qkv_bias=bias, output_bias=bias),
        "intermediate_size": keys.count("intermediate_size_mlp"),
        "moe": moe,
    }


def _gpt2(keys: ConfigKeys) -> dict[str, Any]:
    return _common(keys, tied=True) | {
        "attention": _attention(keys, qkv_bias=True, output_bias=True),
        "intermediate_size": keys.count("n_inner", default=4 * keys.count("n_embd")),
        "gated": False,
        "mlp_bias": True,
        "norm_bias": True,
        "num_position_embeddings": keys.count("n_positions", "n_ctx"),
    }


#: Hugging Face architecture -> (family, reader of its keys).
READERS: Mapping[str, tuple[str, Callable[[ConfigKeys], dict[str, Any]]]] = MappingProxyType(
    {
        "LlamaForCausalLM": ("llama", _llama),
        "MistralForCausalLM": ("mistral", _mistral),
        "MixtralForCausalLM": ("mixtral", _mixtral),
        "Qwen2ForCausalLM": ("qwen2", _qwen2),
        "Qwen3ForCausalLM": ("qwen3", _qwen3),
        "Qwen3MoeForCausalLM": ("qwen3_moe", _qwen3_moe),
        "DeepseekV2ForCausalLM": ("deepseek_v2", _deepseek),
        "DeepseekV3ForCausalLM": ("deepseek_v3", _deepseek),
        "KimiK25ForConditionalGeneration": ("deepseek_v3", _deepseek),
        "GptOssForCausalLM": ("gpt_oss", _gpt_oss),
        "MiniMaxM2ForCausalLM": ("minimax_m2", _minimax_m2),
        "Llama4ForConditionalGeneration": ("llama4", _llama4),
        "Llama4ForCausalLM": ("llama4", _llama4),
        "GPT2LMHeadModel": ("gpt2", _gpt2),
    }
)
_LIGHTNING = "lightning (linear) attention keeps a state of fixed size, not a KV cache, and is not modelled"
REFUSED: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM"), _LIGHTNING)
)
