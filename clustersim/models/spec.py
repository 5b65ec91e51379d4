"""A language model's shape: attention, MLP, experts, and every weight tensor that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clustersim.kinds import Value
from clustersim.models.precision import SCOPES, Precision, TensorKind, bytes_per_element

Count = Annotated[int, Field(ge=1, strict=True)]
NonNegative = Annotated[int, Field(ge=0, strict=True)]
#: Where a tensor lives: before the first layer, after the last, or in each (dense, MoE) layer.
Where = Literal["first", "last", "every", "dense", "moe"]
#: How tensor parallelism cuts it: by vocabulary row, query head, KV head, MLP column, expert, or not at all.
Shard = Literal["vocab", "heads", "kv_heads", "mlp", "experts", "none"]


class GroupedQueryAttention(Value):
    """Attention whose `num_heads` queries share `num_kv_heads` keys and values (MHA if equal, MQA if one)."""

    kind: Literal["grouped_query"] = "grouped_query"
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: Literal["none", "per_head", "per_layer"] = "none"
    """Learned norm of queries and keys: one vector for all heads (Qwen3), or one over all (MiniMax-M2)."""
    sinks: bool = False
    """One learned logit a head that takes up unused attention (gpt-oss)."""
    sliding_window: Count | None = None
    """Tokens that a windowed layer attends to and keeps in its cache."""
    window_pattern: tuple[bool, ...] = ()
    """Which layers are windowed, repeated over the layers: gpt-oss alternates, (true, false)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads ({self.num_kv_heads}) must divide num_heads ({self.num_heads})")
        if (self.sliding_window is None) == any(self.window_pattern):
            raise ValueError("sliding_window and window_pattern need each other")
        return self

    @property
    def kv_elements(self) -> int:
        """Cached elements of one token in one layer: a key and a value a KV head."""
        return 2 * self.num_kv_heads * self.head_dim


class MultiHeadLatentAttention(Value):
    """Attention that caches one low-rank latent for all heads (DeepSeek-V2, arXiv:2405.04434, 2.1)."""

    kind: Literal["multi_head_latent"] = "multi_head_latent"
    num_heads: Count
    q_lora_rank: Count | None = None
    kv_lora_rank: Count
    qk_nope_head_dim: Count
    qk_rope_head_dim: Count
    v_head_dim: Count

    @property
    def kv_elements(self) -> int:
        """Cached elements of one token in one layer: the latent and the shared rotary key."""
        return self.kv_lora_rank + self.qk_rope_head_dim


class MixtureOfExperts(Value):
    """Feed-forward layers of `num_experts` experts, of which a token uses `top_k` and every shared one."""

    num_experts: Count
    top_k: Count
    expert_intermediate_size: Count
    num_shared_experts: NonNegative = 0
    shared_intermediate_size: NonNegative = 0
    """Width of each shared expert."""
    num_dense_layers: NonNegative = 0
    """Leading layers with a plain MLP (DeepSeek-V3: 3)."""
    every: Count = 1
    """After those, layers every-1, 2*every-1, ... have experts, the others an MLP (Llama-4 Maverick: 2)."""
    gated: bool = True
    expert_bias: bool = False
    router_bias: bool = False
    """One bias or load-balancing correction an expert."""
    num_groups: Count = 1
    """Equal groups of experts that routing first chooses among (DeepSeek-V3: 8)."""
    top_groups: Count = 1
    """Groups that the experts of one token come from (DeepSeek-V3: 4, so that it goes to few nodes)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k ({self.top_k}) is above num_experts ({self.num_experts})")
        if bool(self.num_shared_experts) != bool(self.shared_intermediate_size):
            raise ValueError("num_shared_experts and shared_intermediate_size need each other")
        if self.num_experts % self.num_groups:
            raise ValueError(f"num_groups ({self.num_groups}) must divide num_experts ({self.num_experts})")
        if self.top_groups > self.num_groups:
            raise ValueError(f"top_groups ({self.top_groups}) is above num_groups ({self.num_groups})")
        if self.top_groups * (self.num_experts // self.num_groups) < self.top_k:
            raise ValueError(f"{self.top_groups} groups hold fewer than top_k ({self.top_k}) experts")
        return self


class ModelSpec(Value):
    """The shape of a decoder-only language model, without multi-token-prediction layers or vision tower."""

    name: str
    family: str
    num_layers: Count
    hidden_size: Count
    vocab_size: Count
    attention: Annotated[GroupedQueryAttention | MultiHeadLatentAttention, Field(discriminator="kind")]
    intermediate_size: Count | None = None
    """Width of the MLP of dense layers; none where every layer has experts."""
    gated: bool = True
    """Whether the MLP has a gate matrix (SwiGLU: three matrices) or not (GPT-3: two)."""
    mlp_bias: bool = False
    moe: MixtureOfExperts | None = None
    norm_bias: bool = False
    """Whether norms have a bias (LayerNorm) or not (RMSNorm)."""
    num_position_embeddings: NonNegative = 0
    """Rows of a learned position table (GPT-3: 2048)."""
    tied_embeddings: bool = False
    """Whether the LM head is the embedding table."""
    max_context: Count
    num_input_states: Count = 1
    """States that a matrix joins into one before the first layer: 2 in a multi-token-prediction module."""
    native_precision: Precision = Precision.model_validate("bf16")
    """The formats in which the checkpoint is published."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.layers("dense") and self.intermediate_size is None:
            raise ValueError("intermediate_size is needed: not every layer has experts")
        if not self.layers("moe") and self.moe:
            raise ValueError("moe is given, but no layer has experts")
        return self

    def has_experts(self, layer: int) -> bool:
        """Say whether a layer (from 0) is a mixture of experts."""
        moe = self.moe
        return moe is not None and layer >= moe.num_dense_layers and (layer + 1) % moe.every == 0

    def is_windowed(self, layer: int) -> bool:
        """Say whether a layer (from 0) attends to a sliding window only."""
        pattern = getattr(self.attention, "window_pattern", ())
        return bool(pattern) and pattern[layer % len(pattern)]

    def layers(self, where: Where) -> tuple[int, ...]:
        """Return the layers (from 0) in which tensors of a place live."""
        every = range(self.num_layers)
        if where in ("dense", "moe"):
            return tuple(layer for layer in every if self.has_experts(layer) == (where == "moe"))
        return {"first": (0,), "last": (self.num_layers - 1,)}.get(where, tuple(every))

    @property
    def num_parameters(self) -> int:
        """All weights; a tied LM head counts once."""
        return sum(tensor.num_params * len(self.layers(tensor.where)) for tensor in tensors(self))

    @property
    def num_active_parameters(self) -> int:
        """Weights that one token uses: all but the experts it is not sent to (embeddings count in full)."""
        return sum(tensor.num_active_params * len(self.layers(tensor.where)) for tensor in tensors(self))

    @property
    def attention_params_per_layer(self) -> int:
        """Attention matrices and biases of one layer, without its norms."""
        return sum(tensor.num_params for tensor in tensors(self) if tensor.kind == "attention")

    @property
    def flops_per_token(self) -> int:
        """FLOP of one token in the weight matrices, scores excluded: 2 a weight (arXiv:2001.08361)."""
        matrices = (tensor for tensor in tensors(self) if tensor.is_matrix)
        return sum(2 * tensor.num_active_params * len(self.layers(tensor.where)) for tensor in matrices)

    @property
    def num_window_layers(self) -> int:
        """Layers whose cache is capped at the sliding window."""
        return sum(map(self.is_windowed, range(self.num_layers)))

    @property
    def kv_elements_per_token(self) -> int:
        """Cached elements of one token over all layers, windowed ones counted as if full."""
        return self.attention.kv_elements * self.num_layers

    def kv_bytes_per_token(self, kv_cache: str = "bf16") -> float:
        """Return the cached bytes of one token over all layers, windowed ones counted as if full."""
        return self.kv_elements_per_token * bytes_per_element(kv_cache)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One weight tensor (the experts of a layer are one) of every layer at `where`."""

    name: str
    kind: TensorKind
    num_params: int
    """Elements in one layer."""
    where: Where = "every"
    shard: Shard = "none"
    is_matrix: bool = True
    """Whether tokens are multiplied by it: not so for norms, biases and embedding look-ups."""
    used_frac: float = 1.0
    """Share of the elements that one token uses: top_k / num_experts of the experts."""

    @property
    def num_active_params(self) -> int:
        """Elements in one layer that one token uses."""
        return round(self.num_params * self.used_frac)

    @property
    def quantised(self) -> bool:
        """Whether quantising "linear" layers touches it."""
        return self.is_matrix and self.kind in SCOPES["linear"]


@lru_cache(maxsize=256)
def tensors(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Return every weight tensor of a model, in the order of the forward pass."""
    hidden, vocab = spec.hidden_size, spec.vocab_size
    norm = hidden * (2 if spec.norm_bias else 1)
    found = [
        Tensor("embed_tokens", "embedding", vocab * hidden, "first", "vocab", is_matrix=spec.tied_embeddings),
        Tensor(
            "embed_positions", "embedding", spec.num_position_embeddings * hidden, "first", is_matrix=False
        ),
        Tensor(
            "input_proj",
            "attention",
            (spec.num_input_states > 1) * spec.num_input_states * hidden**2,
            "first",
        ),
        Tensor("input_layernorm", "norm", norm, is_matrix=False),
    ]
    if isinstance(spec.attention, GroupedQueryAttention):
        found += _grouped_query(spec.attention, hidden)
    else:
        found += _latent(spec.attention, hidden)
    found.append(Tensor("post_attention_layernorm", "norm", norm, is_matrix=False))
    if spec.layers("dense"):
        width = spec.intermediate_size or 0
        found += _mlp("mlp", "dense", hidden, width, gated=spec.gated, bias=spec.mlp_bias)
    if spec.moe:
        found += _experts(spec.moe, hidden)
    found.append(Tensor("norm", "norm", norm, "last", is_matrix=False))
    if not spec.tied_embeddings:
        found.append(Tensor("lm_head", "lm_head", vocab * hidden, "last", "vocab"))
    return tuple(tensor for tensor in found if tensor.num_params)


def _grouped_query(attention: GroupedQueryAttention, hidden: int) -> list[Tensor]:
    queries, keys = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
    norms = {"none": 0, "per_head": 2 * attention.head_dim, "per_layer": queries + keys}
    bias, out_bias = int(attention.qkv_bias), int(attention.output_bias)
    return [
        Tensor("q_proj", "attention", hidden * queries, shard="heads"),
        Tensor("q_proj.bias", "attention", bias * queries, shard="heads", is_matrix=False),
        Tensor("kv_proj", "attention", hidden * 2 * keys, shard="kv_heads"),
        Tensor("kv_proj.bias", "attention", bias * 2 * keys, shard="kv_heads", is_matrix=False),
        Tensor("qk_norm", "norm", norms[attention.qk_norm], is_matrix=False),
        Tensor(
            "sinks", "attention", int(attention.sinks) * attention.num_heads, shard="heads", is_matrix=False
        ),
        Tensor("o_proj", "attention", queries * hidden, shard="heads"),
        Tensor("o_proj.bias", "attention", out_bias * hidden, is_matrix=False),
    ]


def _latent(attention: MultiHeadLatentAttention, hidden: int) -> list[Tensor]:
    # The down-projections are replicated: vLLM holds q_a_proj and kv_a_proj as ReplicatedLinear.
    heads, rank, q_rank = attention.num_heads, attention.kv_lora_rank, attention.q_lora_rank or 0
    queries = heads * (attention.qk_nope_head_dim + attention.qk_rope_head_dim)
    keys_values = heads * (attention.qk_nope_head_dim + attention.v_head_dim)
    return [
        Tensor("q_a_proj", "attention", hidden * q_rank),
        Tensor("q_a_layernorm", "norm", q_rank, is_matrix=False),
        Tensor("q_b_proj" if q_rank else "q_proj", "attention", (q_rank or hidden) * queries, shard="heads"),
        Tensor("kv_a_proj", "attention", hidden * attention.kv_elements),
        Tensor("kv_a_layernorm", "norm", rank, is_matrix=False),
        Tensor("kv_b_proj", "attention", rank * keys_values, shard="heads"),
        Tensor("o_proj", "attention", heads * attention.v_head_dim * hidden, shard="heads"),
    ]  # fmt: skip


def _mlp(kind: TensorKind, where: Where, hidden: int, width: int, *, gated: bool, bias: bool) -> list[Tensor]:
    ups = 2 if gated else 1
    return [
        Tensor(f"{kind}.up_proj", kind, ups * hidden * width, where, "mlp"),
        Tensor(f"{kind}.up_proj.bias", kind, bias * ups * width, where, "mlp", is_matrix=False),
        Tensor(f"{kind}.down_proj", kind, width * hidden, where, "mlp"),
        Tensor(f"{kind}.down_proj.bias", kind, bias * hidden, where, is_matrix=False),
    ]


def _experts(moe: MixtureOfExperts, hidden: int) -> list[Tensor]:
    ups, width = 2 if moe.gated else 1, moe.expert_intermediate_size
    bias = int(moe.expert_bias)
    used_frac = moe.top_k / moe.num_experts
    shared_width = moe.num_shared_experts * moe.shared_intermediate_size

    def routed(name: str, size: int, is_matrix: bool = True) -> Tensor:
        return Tensor(name, "expert", moe.num_experts * size, "moe", "experts", is_matrix, used_frac)

    return [
        Tensor("router", "router", hidden * moe.num_experts, "moe"),
        Tensor("router.bias", "router", int(moe.router_bias) * moe.num_experts, "moe", is_matrix=False),
        routed("expert.up_proj", ups * hidden * width),
        routed("expert.up_proj.bias", bias * ups * width, is_matrix=False),
        routed("expert.down_proj", width * hidden),
        routed("expert.down_proj.bias", bias * hidden, is_matrix=False),
        *_mlp("shared_expert", "moe", hidden, shared_width, gated=moe.gated, bias=False),
    ]
