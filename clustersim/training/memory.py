"""What fills an accelerator in training: weights, gradients, optimizer state and kept activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from clustersim.models.layout import Parallelism, weight_bytes_per_rank
from clustersim.models.precision import Precision, bytes_per_element
from clustersim.models.spec import GroupedQueryAttention, ModelSpec
from clustersim.training.layout import WEIGHT_BYTES, Recipe, Recompute, TrainingLayout

#: Driver, libraries, communication buffers, work space and fragmentation: assumed.
RESERVED_BYTES = 4e9


@dataclass(frozen=True)
class TrainingMemory:
    """The memory of the fullest accelerator: on the first pipeline stage, which keeps most, or the last (logits)."""

    weights_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    activations_bytes: float
    capacity_bytes: float

    @property
    def total_bytes(self) -> float:
        """All of it, with what is reserved."""
        held = self.weights_bytes + self.gradients_bytes + self.optimizer_bytes + self.activations_bytes
        return held + RESERVED_BYTES

    @property
    def fits(self) -> bool:
        """Whether the accelerator holds it."""
        return self.total_bytes <= self.capacity_bytes

    def rows(self) -> list[tuple[str, float]]:
        """Return (what, bytes)."""
        return [
            ("weights", self.weights_bytes),
            ("gradients", self.gradients_bytes),
            ("optimizer state", self.optimizer_bytes),
            ("activations", self.activations_bytes),
            ("driver, buffers, work space", RESERVED_BYTES),
        ]


def training_memory(
    spec: ModelSpec,
    layout: TrainingLayout,
    recipe: Recipe,
    seq_len: int,
    num_micro_batches: int,
    capacity_bytes: float,
) -> TrainingMemory:
    """Return what fills the fullest accelerator; all in bytes, `seq_len` in tokens of one sequence."""
    stages = (True,) if layout.pp == 1 else (False, True)
    found = [
        _stage(spec, layout, recipe, seq_len, num_micro_batches, capacity_bytes, last) for last in stages
    ]
    return max(found, key=lambda memory: memory.total_bytes)


def _stage(
    spec: ModelSpec, layout: TrainingLayout, recipe: Recipe, seq_len: int, num: int, capacity: float, last: bool
) -> TrainingMemory:  # fmt: skip
    dense, expert = rank_params(spec, layout.parallelism, layout.pp - 1 if last else 0)
    shared = layout.cp * layout.dp, layout.expert_dp
    held = dense + expert
    spread = dense / shared[0] + expert / shared[1]
    states = recipe.master_bytes + recipe.moment_bytes
    tokens = layout.micro_batch * seq_len / layout.cp
    local, precision = tokens / layout.tp, recipe.precision
    activations = local * kept_bytes(spec, precision, recipe.recompute) * _in_flight(spec, layout, num, last)
    if recipe.recompute == "full":
        activations += local * kept_bytes(spec, precision, "none")
    if last:
        # Logits and their gradient: one in fp32, one in bf16.
        activations += local * spec.vocab_size * (4 + 2)
    # ZeRO-3 holds the gathered weights of two layers beside its share: the one at work and the next.
    two_layers = 2 * held / spec.num_layers * layout.pp
    return TrainingMemory(
        WEIGHT_BYTES * (spread + two_layers if recipe.zero == 3 else held),
        recipe.gradient_bytes * (spread if recipe.zero >= 2 else held),
        states * (spread if recipe.zero >= 1 else held),
        activations,
        capacity,
    )


def _in_flight(spec: ModelSpec, layout: TrainingLayout, num: int, last: bool) -> float:
    """Return the layers whose activations a stage keeps at once, times micro-batches (Korthikanti et al., 4.2.3).

    The first stage of 1F1B keeps pp micro-batches of L/pp layers, interleaved 1 + (pp-1)/(pp v) times that; the
    last stage keeps one, interleaved its v chunks of pp.
    """
    pp, layers = layout.pp, spec.num_layers
    if pp == 1:
        return float(layers)
    if last:
        return layers / pp if layout.virtual_stages == 1 else float(layers)
    grown = 1 + (pp - 1) / (pp * layout.virtual_stages) if layout.virtual_stages > 1 else 1.0
    return min(layers * grown, layers / pp * num)


@lru_cache(maxsize=4096)
def kept_bytes(spec: ModelSpec, precision: str, recompute: Recompute) -> float:
    """Return the bytes that one token's activations take in a mean layer, all tp ranks, until its backward pass.

    Korthikanti et al. (arXiv:2205.05198), table 2, with flash attention; sequence parallelism cuts all of it over tp.
    Per token: inputs of both norms 4h; outputs of both 4h; queries, keys, values; their output; MLP columns
    before and after the activation. GPT without dropout: 32 h (34 h with its masks). fp8 keeps the inputs of matrix
    products in one byte. Experts: the same for each routed copy, its input with it, spread evenly.
    """
    if recompute == "full":
        return 2.0 * spec.hidden_size
    attention, hidden = spec.attention, spec.hidden_size
    narrow = bytes_per_element(Precision.model_validate(precision).activations)
    keep = recompute == "none"
    if isinstance(attention, GroupedQueryAttention):
        queries = attention.num_heads * attention.head_dim
        attended = 2.0 * (queries + attention.kv_elements) + narrow * queries
    else:
        key = attention.qk_nope_head_dim + attention.qk_rope_head_dim
        expanded = attention.num_heads * (2 * key + attention.v_head_dim) if keep else 0
        # The down-projections are copied to every tp rank, but sequence parallelism keeps them cut.
        low = (attention.q_lora_rank or 0) + attention.kv_elements
        attended = 2.0 * (expanded + low) + narrow * attention.num_heads * attention.v_head_dim
    norms = 4.0 * hidden + (2 * narrow * hidden if keep else 0)

    def columns(width: float, gated: bool) -> float:
        return 2.0 * (2 if gated else 1) * width + (narrow * width if keep else 0)

    dense, moe_layers = len(spec.layers("dense")), len(spec.layers("moe"))
    mlp = dense * columns(spec.intermediate_size or 0, spec.gated) if dense else 0.0
    if spec.moe:
        moe = spec.moe
        routed = moe.top_k * (narrow * hidden + columns(moe.expert_intermediate_size, moe.gated))
        shared = columns(moe.num_shared_experts * moe.shared_intermediate_size, moe.gated)
        mlp += moe_layers * (routed + shared)
    return norms + attended + mlp / spec.num_layers


@lru_cache(maxsize=4096)
def rank_params(spec: ModelSpec, parallelism: Parallelism, stage: int) -> tuple[float, float]:
    """Return the weights on one rank of a pipeline stage: (outside experts, of experts)."""
    held = weight_bytes_per_rank(spec, parallelism, Precision.model_validate("bf16"), stage)
    expert = held.pop("expert", 0.0)
    return sum(held.values()) / WEIGHT_BYTES, expert / WEIGHT_BYTES
