"""How one replica lies on its accelerators, and the bytes that fall to each of them.

A replica takes tp x attention_dp x pp accelerators; a pipeline stage takes tp x attention_dp of them.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Literal

from clustersim.kinds import Value
from clustersim.models.precision import Precision, TensorKind, bytes_per_element
from clustersim.models.spec import Count, GroupedQueryAttention, ModelSpec, NonNegative, Tensor, tensors

#: Kernels that bring tokens to their experts and back, by the names of vLLM's `--all2all-backend`; see
#: clustersim.models.exchange.
AllToAll = Literal["direct", "deepep_high_throughput", "deepep_low_latency"]


class Parallelism(Value):
    """How one replica is cut over its tp x attention_dp x pp accelerators, in vLLM's terms.

    Attention and dense MLPs are cut over tp; their attention_dp copies serve different requests. Routed
    experts are dealt to ep groups of ranks; each is cut over the tp x attention_dp / ep ranks of its group.
    """

    tp: Count = 1
    """Tensor parallel ranks that share each attention head group, MLP and the vocabulary."""
    pp: Count = 1
    """Pipeline stages."""
    ep: Count = 1
    """Expert parallel groups; tp x attention_dp gives every rank whole experts."""
    attention_dp: Count = 1
    """Copies of attention, dense MLPs and shared experts, each with requests of its own."""
    redundant_experts: NonNegative = 0
    """Copies of popular routed experts in each layer, beyond one of each (vLLM's `num_redundant_experts`)."""
    all_to_all: AllToAll = "direct"
    """How tokens reach their experts under expert and attention data parallelism."""
    two_batch_overlap: bool = False
    """Whether a step is split in two where that is faster, so that one half communicates while the other computes
    (vLLM's `--enable-dbo`, SGLang's `--enable-two-batch-overlap`)."""

    @property
    def num_accelerators(self) -> int:
        """Accelerators of one replica."""
        return self.stage_size * self.pp

    @property
    def stage_size(self) -> int:
        """Accelerators of one pipeline stage."""
        return self.tp * self.attention_dp

    @property
    def expert_tp(self) -> int:
        """Ranks over which one expert is cut."""
        return max(1, self.stage_size // self.ep)

    @property
    def exchanges_tokens(self) -> bool:
        """Whether tokens travel to the ranks of their experts, instead of being at all of them."""
        return self.ep > 1 and self.attention_dp > 1


def check_layout(spec: ModelSpec, parallelism: Parallelism, precision: Precision | None = None) -> list[str]:
    """Return why this model cannot be laid out so, each with the choices that can; empty if it can."""
    found = _check_tp(spec, parallelism.tp)
    if parallelism.pp > spec.num_layers:
        found.append(
            f"pp {parallelism.pp} is above the {spec.num_layers} layers; choices: 1 to {spec.num_layers}"
        )
    found += _check_experts(spec, parallelism) or _check_exchange(parallelism)
    if precision is not None and precision.scope == "experts" and spec.moe is None:
        found.append(
            f"the precision quantises routed experts only, and {spec.name} has none; set scope: linear"
        )
    if not found and precision is not None and precision.weights == "fp8_block":
        found = _check_blocks(spec, parallelism, precision)
    return found


def _check_tp(spec: ModelSpec, tp: int) -> list[str]:
    heads, kv_heads = spec.attention.num_heads, getattr(spec.attention, "num_kv_heads", 1)
    widths = _widths_over_tp(spec)

    def fits(n: int) -> bool:
        return not (kv_heads % n and n % kv_heads) and not any(width % n for width in widths.values())

    choices = f"; choices: {_listed([n for n in _divisors(heads) if fits(n)])}"
    if heads % tp:
        return [f"tp {tp} does not divide the {heads} attention heads{choices}"]
    found = [
        f"tp {tp} does not divide the {what} width {width}{choices}"
        for what, width in widths.items()
        if width % tp
    ]
    if kv_heads % tp and tp % kv_heads:
        found.append(f"tp {tp} neither divides nor is a multiple of the {kv_heads} KV heads{choices}")
    return found


def _check_experts(spec: ModelSpec, parallelism: Parallelism) -> list[str]:
    ep, dp, size, moe = parallelism.ep, parallelism.attention_dp, parallelism.stage_size, spec.moe
    if moe is None:
        found = [f"ep {ep}, but {spec.name} has no experts; choices: 1"] if ep > 1 else []
        if parallelism.redundant_experts:
            found.append(f"redundant_experts, but {spec.name} has no experts; choices: 0")
        if dp > 1:
            found.append(
                f"attention_dp {dp}, but {spec.name} has no experts to share: use {dp} replicas; choices: 1"
            )
        return found
    held, width = moe.num_experts + parallelism.redundant_experts, moe.expert_intermediate_size
    fits = [n for n in _divisors(size) if held % n == 0 and width % (size // n) == 0]
    choices = f"; choices: {_listed(fits)}" if fits else "; no ep fits this tp x attention_dp"
    if held % ep or size % ep:
        copies = f" and {parallelism.redundant_experts} redundant ones" if held > moe.num_experts else ""
        more = parallelism.redundant_experts + -held % ep
        add = (
            f"; or redundant_experts: {more}" if size % ep == 0 and more <= moe.num_experts * (ep - 1) else ""
        )
        return [
            f"ep {ep} must divide the {moe.num_experts} experts{copies} and tp x attention_dp ({size}){choices}{add}"
        ]
    if width % parallelism.expert_tp:
        return [
            f"ep {ep} cuts each expert's width {width} over {parallelism.expert_tp} ranks, "
            f"which do not divide it{choices}"
        ]
    most = moe.num_experts * (ep - 1)
    if parallelism.redundant_experts > most:
        return [
            f"redundant_experts {parallelism.redundant_experts} is above {most}, with which each of {ep} expert "
            f"parallel groups has every expert; choices: 0 to {most}"
        ]
    return []


def _check_exchange(parallelism: Parallelism) -> list[str]:
    """Return what is asked of an exchange of tokens that this layout cannot have."""
    kernels, size, found = parallelism.all_to_all, parallelism.stage_size, []
    if kernels != "direct" and not parallelism.exchanges_tokens:
        found.append(
            f"all_to_all {kernels}, but tokens travel only with ep and attention_dp above 1; choices: direct"
        )
    elif kernels != "direct" and parallelism.ep != size:
        found.append(
            f"all_to_all {kernels} needs whole experts on each rank, ep {size}, not {parallelism.ep}"
            "; choices: direct, or that ep"
        )
    if parallelism.two_batch_overlap and not parallelism.exchanges_tokens:
        found.append(
            "two_batch_overlap hides the exchange of tokens, which is only with ep and attention_dp above 1; "
            "choices: false"
        )
    return found


def _check_blocks(spec: ModelSpec, parallelism: Parallelism, precision: Precision) -> list[str]:
    # vLLM refuses a shard that ends inside a 128x128 scale block (fp8.py, validate_fp8_block_shape).
    linear = precision.scope != "experts"
    cuts = {what: (width, parallelism.tp) for what, width in _widths_over_tp(spec).items() if linear}
    if spec.moe:
        cuts["expert"] = (spec.moe.expert_intermediate_size, parallelism.expert_tp)
    return [
        f"fp8_block scales cover 128 columns, but the {what} width {width} cut over {ranks} ranks gives each "
        f"{width // ranks}; use {'a larger ep' if what == 'expert' else 'a smaller tp'} or another format"
        for what, (width, ranks) in cuts.items()
        if ranks > 1 and width // ranks % 128
    ]


def _widths_over_tp(spec: ModelSpec) -> dict[str, int]:
    widths = {"MLP": spec.intermediate_size or 0} if spec.layers("dense") else {}
    if spec.moe and spec.moe.num_shared_experts:
        widths["shared expert"] = spec.moe.shared_intermediate_size * spec.moe.num_shared_experts
    return widths


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) <= 16 else ", ".join(map(str, numbers[:16])) + ", ..."


def stages(spec: ModelSpec, parallelism: Parallelism) -> tuple[range, ...]:
    """Return the layers of each pipeline stage, cut as vLLM's `get_pp_indices` does.

    Layers left over go one each to the stages before the last, because the last has the LM head.
    """
    pp = parallelism.pp
    each, left = divmod(spec.num_layers, pp)
    sizes = [each + (pp - 1 - left <= stage < pp - 1) for stage in range(pp)]
    return tuple(range(sum(sizes[:stage]), sum(sizes[: stage + 1])) for stage in range(pp))


def weight_bytes_per_rank(
    spec: ModelSpec, parallelism: Parallelism, precision: Precision, stage: int | None = None
) -> dict[TensorKind, float]:
    """Return the weight bytes on one rank by kind of tensor, of the heaviest pipeline stage unless given."""
    every = _weight_bytes(spec, parallelism, precision)
    chosen = max(every, key=lambda kinds: sum(kinds.values())) if stage is None else every[stage]
    return dict(chosen)


@lru_cache(maxsize=256)
def _weight_bytes(
    spec: ModelSpec, parallelism: Parallelism, precision: Precision
) -> tuple[dict[TensorKind, float], ...]:
    found = []
    for layers in stages(spec, parallelism):
        held: dict[TensorKind, float] = defaultdict(float)
        for tensor in tensors(spec):
            form = precision.format_of(tensor.kind, tensor.is_matrix)
            each = tensor.num_params * bytes_per_element(form) / _num_shards(tensor, spec, parallelism)
            copies = sum(layer in layers for layer in spec.layers(tensor.where))
            if copies:
                held[tensor.kind] += each * copies
            elif tensor.name == "embed_tokens" and spec.tied_embeddings and spec.num_layers - 1 in layers:
                held["lm_head"] += each  # the last stage needs a copy of the tied table
        found.append(dict(held))
    return tuple(found)


def _num_shards(tensor: Tensor, spec: ModelSpec, parallelism: Parallelism) -> float:
    tp, attention = parallelism.tp, spec.attention
    kv_heads = attention.num_kv_heads if isinstance(attention, GroupedQueryAttention) else tp
    num_experts = spec.moe.num_experts if spec.moe else 1
    experts = parallelism.stage_size * num_experts / (num_experts + parallelism.redundant_experts)
    return {"vocab": tp, "heads": tp, "mlp": tp, "kv_heads": min(tp, kv_heads),
            "experts": experts, "none": 1}[tensor.shard]  # fmt: skip


def kv_bytes_per_token_per_rank(
    spec: ModelSpec, parallelism: Parallelism, precision: Precision, stage: int | None = None
) -> tuple[float, float, int | None]:
    """Return one token's cache bytes on one rank: (in full layers, in windowed layers, the window in tokens).

    GQA heads are cut over tp, each rank keeping at least one; MLA's latent is copied to every rank. Of the
    stage that caches most unless given.
    """
    attention = spec.attention
    if isinstance(attention, GroupedQueryAttention):
        elements = 2 * attention.head_dim * max(1, attention.num_kv_heads // parallelism.tp)
        window = attention.sliding_window
    else:
        elements, window = attention.kv_elements, None
    each = elements * bytes_per_element(precision.kv_cache)
    counts = [(len(layers) - windowed, windowed) for layers in stages(spec, parallelism)
              for windowed in [sum(map(spec.is_windowed, layers))]]  # fmt: skip
    full, windowed = max(counts, key=lambda count: (sum(count), count[0])) if stage is None else counts[stage]
    return full * each, windowed * each, window


def activation_bytes(
    spec: ModelSpec, parallelism: Parallelism, precision: Precision, max_tokens: int, num_sequences: int = 256
) -> float:
    """Return the peak working memory of a step on one rank in bytes: assumed, until it is measured.

    Per token the residual and its normed copy, plus the largest of three: queries, keys, values and their
    output; an MLP's columns before and after the activation; the same for routed tokens (spread evenly), with
    their input and output. Or, if that is more, fp32 logits and a copy to sample from, for `num_sequences`.
    """
    hidden, attention, moe, tp = spec.hidden_size, spec.attention, spec.moe, parallelism.tp
    if isinstance(attention, GroupedQueryAttention):
        queries = attention.num_heads * attention.head_dim / tp
        keys = 2 * attention.head_dim * max(1, attention.num_kv_heads // tp)
        attended = 2 * queries + keys
    else:
        key_dim = attention.qk_nope_head_dim + attention.qk_rope_head_dim
        low_rank = (attention.q_lora_rank or 0) + attention.kv_elements
        attended = low_rank + attention.num_heads / tp * (2 * key_dim + 2 * attention.v_head_dim)
    columns = 3 if spec.gated else 2
    widest = max(attended, columns * (spec.intermediate_size or 0) / tp if spec.layers("dense") else 0)
    if moe:
        routed = parallelism.attention_dp * moe.top_k / parallelism.ep
        inner = (3 if moe.gated else 2) * moe.expert_intermediate_size / parallelism.expert_tp
        shared = 3 * moe.num_shared_experts * moe.shared_intermediate_size / tp
        widest = max(widest, routed * (2 * hidden + inner), shared)
    wide = bytes_per_element(precision.unquantised)
    logits = 2 * 4 * min(num_sequences, max_tokens) * spec.vocab_size
    return max(max_tokens * wide * (2 * hidden + widest), float(logits))
