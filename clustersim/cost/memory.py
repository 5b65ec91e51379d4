"""What fills an accelerator's memory, and the KV cache that is left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from clustersim.cost.host import ServingEngine
from clustersim.models.layout import (
    Parallelism,
    activation_bytes,
    kv_bytes_per_token_per_rank,
    weight_bytes_per_rank,
)
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

    @cached_property
    def weights_bytes(self) -> float:
        """Weights on the heaviest rank."""
        return sum(weight_bytes_per_rank(self.spec, self.parallelism, self.precision).values())

    @cached_property
    def activations_bytes(self) -> float:
        """Peak working memory of a step."""
        return activation_bytes(self.spec, self.parallelism, self.precision, self.max_tokens, self.max_seqs)

    @property
    def window_bytes(self) -> float:
        """KV of sliding-window layers, held for every sequence that a batch may have."""
        _, windowed, window = kv_bytes_per_token_per_rank(self.spec, self.parallelism, self.precision)
        return windowed * (window or 0) * self.max_seqs

    @property
    def kv_bytes_per_token(self) -> float:
        """KV of one token in the layers that keep all of it, on one rank."""
        return kv_bytes_per_token_per_rank(self.spec, self.parallelism, self.precision)[0]

    @property
    def reserved_bytes(self) -> float:
        """What the driver, libraries, captured graphs and, between several accelerators, communication hold."""
        buffers = self.engine.communication_bytes
        several = self.parallelism.num_accelerators > 1
        return self.engine.reserved_bytes.value + (buffers.value if buffers and several else 0.0)

    @property
    def taken_bytes(self) -> float:
        """What is taken before KV blocks."""
        return self.weights_bytes + self.activations_bytes + self.window_bytes + self.reserved_bytes

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
            ("activations, peak", self.activations_bytes),
            ("sliding-window KV", self.window_bytes),
            ("driver, communication buffers, graphs", self.reserved_bytes),
            ("KV blocks", self.kv_bytes),
            ("left to others", self.capacity_bytes - self.usable_bytes),
        ]
