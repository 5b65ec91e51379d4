"""Models of any size: shapes between those of published families, for searches over the number of weights.

Dense: Llama 3's proportions (arXiv:2407.21783, table 3): heads of 128, 8 KV heads, MLP 3.5 times the hidden size,
128,256 words, and a hidden size of about 118 a layer (8B: 128, 70B: 102, 405B: 130; loss hardly depends on it,
Kaplan et al., arXiv:2001.08361, figure 5). Layers are whole and the MLP's width, in 128s, takes up what is left.

MoE: the same with each MLP cut into 9 fine experts of which a token uses 8, and one shared (DeepSeekMoE,
arXiv:2401.06066; DeepSeek-V3 has 8 and 1), and as many experts as the sparsity asks for.
"""

from __future__ import annotations

from functools import lru_cache

from clustersim.errors import InputError
from clustersim.models.spec import GroupedQueryAttention, MixtureOfExperts, ModelSpec

_HEAD, _KV_HEADS, _VOCAB, _MLP, _ASPECT = 128, 8, 128_256, 3.5, 118
_TOP_K, _SHARED = 8, 1
#: Below, embeddings are the model and these proportions say nothing.
LEAST_PARAMS, MOST_PARAMS = 5e8, 1e14
#: Llama 3.2's models of 1B and 3B weights tie their embeddings, those of 8B do not.
_TIED_BELOW = 5e9


@lru_cache(maxsize=4096)
def dense(num_params: float, max_context: int = 131_072) -> ModelSpec:
    """Return a dense model of about `num_params` weights (within 1 %); raises InputError outside 5e8 to 1e14."""
    if not LEAST_PARAMS <= num_params <= MOST_PARAMS:
        raise InputError(
            f"a model of {num_params:.3g} weights: choose {LEAST_PARAMS:.0e} to {MOST_PARAMS:.0e}"
        )
    tables = 1 if num_params < _TIED_BELOW else 2
    hidden = min(_hidden_sizes(), key=lambda size: abs(num_params - _size(size, tables)))
    rest = num_params - tables * _VOCAB * hidden
    layers = max(1, round(rest / _layer(hidden, _MLP * hidden)))
    width = (rest / layers - _layer(hidden, 0)) / (3 * hidden)
    return ModelSpec(
        name=f"dense-{num_params / 1e9:.4g}b",
        family="dense",
        num_layers=layers,
        hidden_size=hidden,
        vocab_size=_VOCAB,
        attention=GroupedQueryAttention(
            num_heads=hidden // _HEAD, num_kv_heads=_KV_HEADS, head_dim=_HEAD
        ),
        intermediate_size=_rounded(width),
        tied_embeddings=tables == 1,
        max_context=max_context,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def moe(num_active: float, sparsity: float, max_context: int = 131_072) -> ModelSpec:
    """Return a mixture of experts of about `num_active` weights a token and `sparsity` times as many in all.

    `sparsity` is all weights over those that a token uses (DeepSeek-V3: 18). Raises InputError where it is below 1
    or asks for fewer experts than a token uses.
    """
    base = dense(num_active, max_context)
    inner = _rounded((base.intermediate_size or 0) / (_TOP_K + _SHARED))
    expert = 3 * base.hidden_size * inner * base.num_layers
    wanted = (sparsity * num_active - (base.num_parameters - _TOP_K * expert)) / expert
    num_experts = max(_TOP_K, round(wanted / 8) * 8)
    if sparsity < 1 or wanted < _TOP_K - 1:
        raise InputError(f"sparsity {sparsity:g} leaves fewer experts than a token uses; choose at least 1")
    experts = MixtureOfExperts(
        num_experts=num_experts,
        top_k=_TOP_K,
        expert_intermediate_size=inner,
        num_shared_experts=_SHARED,
        shared_intermediate_size=inner,
    )
    name = f"moe-{num_active / 1e9:.4g}b-of-{sparsity * num_active / 1e9:.4g}b"
    return base.model_copy(update={"name": name, "family": "moe", "intermediate_size": None, "moe": experts})


def _hidden_sizes() -> range:
    """Return hidden sizes with a whole number of heads for each KV head."""
    return range(_KV_HEADS * _HEAD, 512 * _HEAD * _KV_HEADS, _KV_HEADS * _HEAD)


def _size(hidden: int, tables: int) -> float:
    return hidden / _ASPECT * _layer(hidden, _MLP * hidden) + tables * _VOCAB * hidden


def _layer(hidden: int, width: float) -> float:
    """Return the weights of one layer: queries and output, keys and values, three MLP matrices, two norms."""
    return 2 * hidden**2 + 2 * hidden * _KV_HEADS * _HEAD + 3 * hidden * width + 2 * hidden


def _rounded(width: float) -> int:
    return max(128, round(width / 128) * 128)
