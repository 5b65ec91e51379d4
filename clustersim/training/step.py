"""The time of one optimizer step of pretraining, in closed form, and where it goes.

    step = (m + (p - 1) / v) * stage + exposed communication of data parallelism + optimizer

m micro-batches, p pipeline stages of v chunks (interleaved 1F1B: Narayanan et al., arXiv:2104.04473, 2.2), stage
the forward and backward pass of the fullest stage with what it exchanges. Gradients are reduced and weights gathered
beside the passes of one micro-batch; what is longer than these is exposed. Padding is what the last micro-batches
of some replicas lack. Nothing here knows of the host, of slow machines or of input data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from clustersim.errors import InputError
from clustersim.models.ops import Family, Op
from clustersim.training.layout import WEIGHT_BYTES, TrainingLayout, check_training_layout
from clustersim.training.memory import TrainingMemory, rank_params, training_memory
from clustersim.training.price import MicroBatchTimes, Times, TrainingCost
from clustersim.units import GIGA

Part = Literal[
    "forward", "backward", "recompute", "tp", "cp", "ep", "pp", "imbalance", "bubble", "padding", "dp",
    "optimizer",
]  # fmt: skip


@dataclass(frozen=True)
class TrainingStep:
    """One optimizer step: its time by part, and what it used."""

    layout: TrainingLayout
    tokens: int
    """Tokens of the global batch."""
    parts_s: Mapping[Part, float]
    """Seconds by part; they add up to the step. `tp`, `cp`, `ep`, `pp`, `dp` are communication that is exposed."""
    memory: TrainingMemory
    model_flops: float
    """6 a matrix weight and token and causal attention three times: what the step is for."""
    unmasked_flops: float
    """The same with attention counted as if nothing were masked (PaLM, arXiv:2204.02311, appendix B)."""
    hardware_flops: float
    """What one step computes on all accelerators, recomputation included."""
    memory_use_frac: float
    """Share of the memory bandwidth in use, mean over the step."""
    peak_flops_per_s: float
    num_accelerators: int
    evidence: Mapping[str, float]
    """Evidence -> its share of the computation's seconds."""

    @property
    def step_s(self) -> float:
        """Seconds of the step."""
        return sum(self.parts_s.values())

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second of the whole job."""
        return self.tokens / self.step_s

    @property
    def mfu(self) -> float:
        """Model FLOP utilisation, causal attention counted as computed: never above 1."""
        return self._frac(self.model_flops)

    @property
    def mfu_unmasked(self) -> float:
        """Model FLOP utilisation as most papers print it, attention counted whole (PaLM, Megatron-LM)."""
        return self._frac(self.unmasked_flops)

    @property
    def hfu(self) -> float:
        """Hardware FLOP utilisation: recomputation counts (Korthikanti et al., arXiv:2205.05198, 6.3)."""
        return self._frac(self.hardware_flops)

    @property
    def flops_per_s_per_accelerator(self) -> float:
        """FLOP/s of one accelerator, counted as `mfu_unmasked`."""
        return self.mfu_unmasked * self.peak_flops_per_s

    def _frac(self, flops: float) -> float:
        return flops / (self.step_s * self.peak_flops_per_s * self.num_accelerators)


def training_step(cost: TrainingCost, layout: TrainingLayout, global_batch_tokens: int) -> TrainingStep:
    """Return one optimizer step of `global_batch_tokens` tokens.

    Raises InputError where the layout does not suit model or cluster, the batch is no whole number of sequences or
    too small, or an accelerator's memory does not hold it (with what would).
    """
    check_training_layout(cost.spec, cost.cluster, layout)
    num = num_sequences(cost, global_batch_tokens)
    if num < layout.dp:
        raise InputError(
            f"a global batch of {num} sequences of {cost.seq_len} tokens leaves some of dp {layout.dp} "
            f"idle; use at least {layout.dp * cost.seq_len} tokens, or a dp of at most {num}"
        )
    memory = memory_of(cost, layout, num)
    if not memory.fits:
        raise InputError(_does_not_fit(cost, layout, num, memory))
    return step_of(cost, layout, num, memory)


def num_sequences(cost: TrainingCost, global_batch_tokens: int) -> int:
    """Return the sequences of a global batch; raises InputError where that is no whole number."""
    num, rest = divmod(global_batch_tokens, cost.seq_len)
    if rest or not num:
        near = max(1, round(global_batch_tokens / cost.seq_len)) * cost.seq_len
        raise InputError(
            f"a global batch of {global_batch_tokens} tokens is no whole number of sequences of "
            f"{cost.seq_len}; the nearest is {near}"
        )
    return num


def memory_of(cost: TrainingCost, layout: TrainingLayout, num: int) -> TrainingMemory:
    """Return what fills the fullest accelerator in steps of `num` sequences."""
    micro_batches = layout.num_micro_batches(num)
    capacity = cost.device.memory_bytes.value
    return training_memory(cost.spec, layout, cost.recipe, cost.seq_len, micro_batches, capacity)


def step_of(cost: TrainingCost, layout: TrainingLayout, num: int, memory: TrainingMemory) -> TrainingStep:
    """Return one optimizer step of `num` sequences; whether it can be is the caller's to check."""
    times = cost.micro_batch(layout)
    micro = layout.num_micro_batches(num)
    exact = num / (layout.dp * layout.micro_batch)
    mean, fullest = _stage_parts(cost, layout, times)
    stage_s = sum(mean.values()) + fullest
    send_s = _send_s(cost, layout)
    parts: dict[Part, float] = {part: exact * seconds for part, seconds in mean.items()}
    parts["pp"] = exact * send_s
    parts["imbalance"] = exact * fullest
    parts["bubble"] = (layout.pp - 1) / layout.virtual_stages * (stage_s + send_s)
    parts["padding"] = (micro - exact) * (stage_s + send_s)
    parts["dp"] = _exposed_dp(cost, layout, times, micro)
    parts["optimizer"] = _optimizer_s(cost, layout)
    return _result(cost, layout, num * cost.seq_len, parts, memory, times)


def _result(
    cost: TrainingCost, layout: TrainingLayout, tokens: int, parts: Mapping[Part, float],
    memory: TrainingMemory, times: MicroBatchTimes,
) -> TrainingStep:  # fmt: skip
    causal, unmasked = cost.attention_flops_per_token
    matrices = cost.spec.flops_per_token
    layers = matrices - 2.0 * cost.spec.vocab_size * cost.spec.hidden_size
    passes = tokens / (layout.micro_batch * cost.seq_len) / layout.dp
    light = passes * times.light.flops * layout.dp * layout.tp * layout.cp / tokens
    # Flash attention computes scores anew: half a forward pass more.
    again = {"none": 0.0, "selective": light, "full": layers + causal}[cost.recipe.recompute]
    moved = passes * sum(each.bytes for each in (times.forward, times.backward, times.head)) / layout.pp
    bandwidth = cost.device.memory_bandwidth_bytes_per_s.value
    return TrainingStep(
        layout, tokens, parts, memory,
        tokens * 3.0 * (matrices + causal),
        tokens * 3.0 * (matrices + unmasked),
        tokens * (3.0 * matrices + 3.5 * causal + again),
        min(1.0, moved / bandwidth / sum(parts.values())),
        cost.peak_flops_per_s, layout.num_accelerators, times.evidence,
    )  # fmt: skip


def _stage_parts(
    cost: TrainingCost, layout: TrainingLayout, times: MicroBatchTimes
) -> tuple[dict[Part, float], float]:
    """Return a mean stage's seconds of one micro-batch by part, and how much longer the fullest stage takes.

    Layers are dealt to stages so that the fullest is least full, the LM head counting on the last.
    """
    layers, pp = cost.spec.num_layers, layout.pp
    body, head = _body_and_head(cost, times)
    mean: dict[Part, float] = {part: (seconds + head.get(part, 0.0)) / pp for part, seconds in body.items()}
    layer_s, head_s = sum(body.values()) / layers, sum(head.values())
    least = -(-layers // pp)
    fullest = min(
        max(each * layer_s, max(0, layers - (pp - 1) * each) * layer_s + head_s)
        for each in range(least, least + 3)
    )
    return mean, max(0.0, fullest - sum(mean.values()))


def all_stages_s(cost: TrainingCost, times: MicroBatchTimes) -> float:
    """Return the seconds of one micro-batch through all stages, what is exchanged between them apart."""
    body, head = _body_and_head(cost, times)
    return sum(body.values()) + sum(head.values())


def _body_and_head(cost: TrainingCost, times: MicroBatchTimes) -> tuple[dict[Part, float], dict[Part, float]]:
    """Return the seconds of one micro-batch by part: of all layers, and of the LM head."""
    again = {"none": 0.0, "selective": times.light.compute_s, "full": times.forward.compute_s}
    slower = cost.recipe.slowdown
    body: dict[Part, float] = {
        "forward": slower * times.forward.compute_s,
        "backward": slower * times.backward.compute_s,
        "recompute": slower * again[cost.recipe.recompute],
        **_exchanged(cost, times),
    }
    head: dict[Part, float] = {
        "forward": slower * times.head.compute_s / 3,
        "backward": slower * times.head.compute_s * 2 / 3,
        "tp": times.head.exchange_s.get("tp", 0.0),
    }
    return body, head


def _exchanged(cost: TrainingCost, times: MicroBatchTimes) -> dict[Part, float]:
    """Return the exposed seconds of communication between the ranks of a stage, all layers."""
    overlap = cost.recipe.overlap
    shares: dict[Literal["tp", "cp", "ep"], float] = {"tp": overlap.tp, "cp": overlap.cp, "ep": overlap.ep}
    again = 1 if cost.recipe.recompute == "full" else 0
    found: dict[Part, float] = {}
    for group, share in shares.items():
        directions = ((times.forward, 1 + again), (times.backward, 1))
        found[group] = sum(
            count * exposed(each.exchange_s[group], share, each.compute_s) for each, count in directions
        )
    return found


def exposed(seconds: float, share: float, beside_s: float) -> float:
    """Return what is left of communication of which `share` may hide behind `beside_s` of computation."""
    return seconds - min(share * seconds, beside_s)


def _send_s(cost: TrainingCost, layout: TrainingLayout) -> float:
    """Return the seconds that a stage waits for activations and their gradients of one micro-batch."""
    if layout.pp == 1:
        return 0.0
    tokens = layout.micro_batch * cost.seq_len / layout.cp
    message = tokens * cost.spec.hidden_size * 2.0 / layout.tp
    stride = layout.tp * layout.cp * layout.dp
    return 2 * layout.virtual_stages * cost.collective_s(_collective("send", message, 2, stride))


def _exposed_dp(cost: TrainingCost, layout: TrainingLayout, times: MicroBatchTimes, micro: int) -> float:
    """Return the exposed seconds of data parallelism in a step; see Overlap.dp."""
    recipe, stage = cost.recipe, 0
    dense, expert = rank_params(cost.spec, layout.parallelism, stage)
    groups = (
        (dense, layout.cp * layout.dp, layout.tp),
        (expert, layout.expert_dp, layout.tp * layout.parallelism.attention_dp),
    )

    def seconds(family: Family, element: float) -> float:
        ops = [_collective(family, size * element, ranks, stride) for size, ranks, stride in groups]
        return sum(cost.collective_s(op) for op in ops if float(op.message_bytes) > 0)

    share = recipe.overlap.dp
    forward_s, backward_s = (_all_s(each) / layout.pp for each in (times.forward, times.backward))
    if recipe.zero == 0:
        return exposed(seconds("all_reduce", recipe.gradient_bytes), share, backward_s)
    reduced = seconds("reduce_scatter", recipe.gradient_bytes)
    gathered = seconds("all_gather", WEIGHT_BYTES)
    if recipe.zero == 3:
        each = exposed(gathered, share, forward_s) + exposed(gathered + reduced, share, backward_s)
        return micro * each
    times_reduced = micro if recipe.zero == 2 else 1
    return times_reduced * exposed(reduced, share, backward_s) + exposed(gathered, share, forward_s)


def _all_s(times: Times) -> float:
    return times.compute_s + sum(times.exchange_s.values())


def _optimizer_s(cost: TrainingCost, layout: TrainingLayout) -> float:
    """Return the seconds of Adam on the fullest rank, bound by memory.

    Gradients are read for their norm and for the update; fp32 copy and moments are read and written, weights written.
    """
    recipe = cost.recipe
    dense, expert = rank_params(cost.spec, layout.parallelism, 0)
    own = dense + expert
    if recipe.zero:
        own = dense / (layout.cp * layout.dp) + expert / layout.expert_dp
    moved = 2 * recipe.gradient_bytes + 2 * (recipe.master_bytes + recipe.moment_bytes) + WEIGHT_BYTES
    return own * moved / cost.memory_bytes_per_s


def _collective(family: Family, message: float, ranks: int, stride: int) -> Op:
    import numpy as np

    return Op(family, family, "bf16", 1, message_bytes=np.asarray(message), ranks=ranks, stride=stride)


def _does_not_fit(cost: TrainingCost, layout: TrainingLayout, num: int, memory: TrainingMemory) -> str:
    from clustersim.training.search import fitting

    rows = ", ".join(f"{what} {size / GIGA:.1f} GB" for what, size in memory.rows())
    text = (
        f"{cost.spec.name} does not fit: {memory.total_bytes / GIGA:.1f} GB of "
        f"{memory.capacity_bytes / GIGA:.1f} GB on a {cost.device.name} ({rows})."
    )
    mend = fitting(cost, layout, num)
    return (
        f"{text} It fits with {mend}." if mend else f"{text} Use more accelerators, or ones with more memory."
    )
