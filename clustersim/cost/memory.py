"""What fills an accelerator's memory, and the KV cache that is left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from clustersim.cost.host import ServingEngine
from clustersim.cost.speculation import Draft, Speculation
from clustersim.models.exchange import buffer_bytes
from clustersim.models.layout import (
    Parallelism,
    activation_bytes,
    kv_bytes_per_token_per_rank,
    weight_bytes_per_rank,
)
from clustersim.models.lora import Lora, adapter_bytes_per_rank
from clustersim.models.precision import Precision
from clustersim.models.spec import ModelSpec


@dataclass(frozen=True)
class Memory:
    """The memory of the busiest accelerator of a replica.

    Source of the account: vLLM's profiling run (vllm/v1/worker/gpu_worker.py, determine_available_memory): what
    the engine may take, less weights, peak activations and what lies outside the framework, goes to KV blocks.
    """

    spec: ModelSpec
    parallelism: Parallelism
    precision: Precision
    engine: ServingEngine
    capacity_bytes: float
    max_tokens: int
    """Tokens of the largest step on one rank."""
    max_seqs: int
    """Sequences in a batch on one data-parallel rank."""
    speculation: Speculation | None = None
    """Whose draft, on the same ranks, holds weights and KV of its own."""
    lora: Lora | None = None
    """Adapters with slots beside the weights."""

    @cached_property
    def draft(self) -> Draft | None:
        """The draft, where an accelerator works for it."""
        if self.speculation is None:
            return None
        return self.speculation.at_work(self.spec, self.parallelism, self.precision)

    @property
    def draft_weights_bytes(self) -> float:
        """Weights of the draft on the heaviest rank."""
        return self.draft.weights_bytes if self.draft else 0.0

    @cached_property
    def adapters_bytes(self) -> float:
        """Slots for adapters on the rank that has most."""
        if self.lora is None:
            return 0.0
        return self.lora.max_loras * adapter_bytes_per_rank(
            self.spec, self.parallelism, self.precision, self.lora
        )

    @cached_property
    def weights_bytes(self) -> float:
        """Weights on the heaviest rank."""
        return sum(weight_bytes_per_rank(self.spec, self.parallelism, self.precision).values())

    @cached_property
    def activations_bytes(self) -> float:
        """Peak working memory of a step."""
        rows = self.max_seqs * (self.speculation.queries if self.speculation else 1)
        return activation_bytes(self.spec, self.parallelism, self.precision, self.max_tokens, rows)

    @property
    def window_bytes(self) -> float:
        """KV of sliding-window layers, held for every sequence that a batch may have."""
        _, windowed, window = kv_bytes_per_token_per_rank(self.spec, self.parallelism, self.precision)
        drafts = self.draft.window_bytes_per_seq if self.draft else 0.0
        return (windowed * (window or 0) + drafts) * self.max_seqs

    @property
    def kv_bytes_per_token(self) -> float:
        """KV of one token in the layers that keep all of it, those of a draft included, on one rank."""
        drafts = self.draft.kv_bytes_per_token if self.draft else 0.0
        return kv_bytes_per_token_per_rank(self.spec, self.parallelism, self.precision)[0] + drafts

    @property
    def reserved_bytes(self) -> float:
        """What the driver, libraries, captured graphs and, between several accelerators, communication hold."""
        buffers = self.engine.communication_bytes
        several = self.parallelism.num_accelerators > 1
        return self.engine.reserved_bytes.value + (buffers.value if buffers and several else 0.0)

    @property
    def exchange_bytes(self) -> float:
        """What kernels that send each token straight to its experts hold for the tokens of a decode step."""
        tokens = self.max_seqs * (self.speculation.queries if self.speculation else 1)
        return buffer_bytes(self.spec, self.parallelism, tokens)

    @property
    def taken_bytes(self) -> float:
        """What is taken before KV blocks."""
        return (
            self.weights_bytes
            + self.draft_weights_bytes
            + self.adapters_bytes
            + self.exchange_bytes
            + self.activations_bytes
            + self.window_bytes
            + self.reserved_bytes
        )

    @property
    def usable_bytes(self) -> float:
        """What the engine may take: a share of all memory, or all else and a share of what that leaves."""
        if self.engine.memory_frac_of == "all":
            return self.capacity_bytes * self.engine.memory_frac
        return self.taken_bytes + self.engine.memory_frac * (self.capacity_bytes - self.taken_bytes)

    @property
    def kv_bytes(self) -> float:
        """What is left for the cache of one rank; negative where the model does not fit."""
        return self.usable_bytes - self.taken_bytes

    @property
    def blocks_per_rank(self) -> int:
        """KV blocks of one data-parallel rank."""
        return max(0, int(self.kv_bytes // (self.kv_bytes_per_token * self.engine.block_size)))

    @property
    def tokens_per_rank(self) -> int:
        """Tokens that the cache of one data-parallel rank holds: the longest a single request can be."""
        return self.blocks_per_rank * self.engine.block_size

    @property
    def num_blocks(self) -> int:
        """KV blocks of the replica."""
        return self.blocks_per_rank * self.parallelism.attention_dp

    @property
    def kv_tokens(self) -> int:
        """KV capacity of the replica in tokens."""
        return self.num_blocks * self.engine.block_size

    def rows(self) -> list[tuple[str, float]]:
        """Return (what, bytes) that add up to the capacity of one accelerator."""
        return [
            ("weights", self.weights_bytes),
            *([("weights of the draft", self.draft_weights_bytes)] if self.draft else []),
            *([("slots for adapters", self.adapters_bytes)] if self.lora else []),
            *([("expert exchange buffers", self.exchange_bytes)] if self.exchange_bytes else []),
            ("activations, peak", self.activations_bytes),
            ("sliding-window KV", self.window_bytes),
            ("driver, communication buffers, graphs", self.reserved_bytes),
            ("KV blocks", self.kv_bytes),
            ("left to others", self.capacity_bytes - self.usable_bytes),
        ]
