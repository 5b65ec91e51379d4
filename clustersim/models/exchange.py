"""How tokens travel to their experts and back, by the kernels that carry them.

    direct                  a token goes once to each rank that has one of its experts, over whatever lies between
    deepep_high_throughput  once to each node over the network, to the rank of the sender's place there, which passes
                            it on to others of the node over the scale-up link; results come back added up a node
    deepep_low_latency      once for each of its experts, straight to the expert's rank; results come back one by one

Source of the last two: deepseek-ai/DeepEP docs/legacy.md (V1), "normal" and "low-latency" kernels. Dispatch carries
activations in their format, 8-bit ones with an fp32 scale for 128 channels; combine carries the model's own type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from types import MappingProxyType
from typing import NamedTuple

from clustersim.models.layout import AllToAll, Parallelism
from clustersim.models.precision import Precision, bytes_per_element, compute_dtype
from clustersim.models.spec import MixtureOfExperts, ModelSpec

#: Share of the processors that a kernel keeps busy while it communicates beside computation: 20 of an H800's 132
#: (DeepSeek-V3, arXiv:2412.19437, 3.2.2; vLLM's default for DeepEP), and none where the network card reads memory by
#: itself ("without any SM occupation", DeepEP docs/legacy.md). For `direct` as for the first: assumed.
PROCESSORS_FRAC: Mapping[AllToAll, float] = MappingProxyType(
    {"direct": 20 / 132, "deepep_high_throughput": 20 / 132, "deepep_low_latency": 0.0}
)
#: Kernels for which the host waits to learn how many tokens come, so that no graph can hold them (DeepEP
#: docs/legacy.md, "not compatible with CUDA graph").
WAITS_FOR_HOST: frozenset[AllToAll] = frozenset({"deepep_high_throughput"})
_SCALE_BYTES, _SCALED_CHANNELS = 4, 128
_HEADER_BYTES = 16


class Routes(NamedTuple):
    """Messages of one token on the busiest kind of link: within nodes, between nodes, and delivered in all."""

    inside: float
    outside: float
    delivered: float


@dataclass(frozen=True)
class Fanout:
    """Where one token goes, on `ranks` ranks that hold equal shares of the experts."""

    kernels: AllToAll
    ranks: int
    top_k: int
    num_groups: int = 1
    top_groups: int = 1
    in_order: bool = True
    """Whether experts lie by number, so that groups of them stay together; balancers keep groups only within nodes."""

    def routes(self, per_node: int) -> Routes:
        """Return the messages of one token with `per_node` ranks in a node, those that a rank sends itself left out."""
        nodes = -(-self.ranks // per_node)
        if self.kernels == "deepep_low_latency":
            away = self.top_k / self.ranks
            return Routes(away * (per_node - 1), away * (self.ranks - per_node), float(self.top_k))
        delivered = distinct(self.top_k, self.ranks)
        inside = delivered * (per_node - 1) / per_node
        return Routes(inside, self.nodes_reached(nodes) * (nodes - 1) / nodes, delivered)

    def nodes_reached(self, nodes: int) -> float:
        """Return the nodes that have an expert of one token, in the mean.

        Group-limited routing (DeepSeek-V3: 4 of 8 groups) keeps them few as long as groups lie together.
        """
        groups, top = self.num_groups, self.top_groups
        if groups % nodes == 0:
            each = groups // nodes
            missed = sum(
                comb(each, chosen) * comb(groups - each, top - chosen) * (1 - chosen / top) ** self.top_k
                for chosen in range(min(each, top) + 1)
                if top - chosen <= groups - each
            )
            return nodes * (1 - missed / comb(groups, top))
        if nodes % groups == 0 and self.in_order:
            return distinct(self.top_k, top * nodes // groups)
        return distinct(self.top_k, nodes)


def fanout(moe: MixtureOfExperts, layout: Parallelism) -> Fanout:
    """Return where a token of this model goes in this layout."""
    return Fanout(layout.all_to_all, layout.stage_size, moe.top_k, moe.num_groups, moe.top_groups,
                  layout.redundant_experts == 0)  # fmt: skip


def distinct(draws: int, bins: int) -> float:
    """Return the expected number of bins hit by `draws` independent draws among equal bins."""
    return bins * (1 - (1 - 1 / bins) ** draws)


def dispatch_bytes(precision: Precision, hidden: int) -> float:
    """Return the bytes of one token on its way to an expert, its scales included."""
    activations = precision.activations
    if compute_dtype(activations) == "fp8":
        return hidden * (1 + _SCALE_BYTES / _SCALED_CHANNELS)
    return hidden * bytes_per_element(activations)


def buffer_bytes(spec: ModelSpec, layout: Parallelism, max_tokens: int) -> float:
    """Return the buffers that low-latency kernels hold on each rank, for steps of up to `max_tokens` tokens a rank.

    Two to send and two to receive, each with room for every token at every expert in bf16 (DeepEP csrc/config.hpp,
    LowLatencyLayout). What the other kernels hold is part of the engine's communication buffers.
    """
    if layout.all_to_all != "deepep_low_latency" or spec.moe is None:
        return 0.0
    experts = spec.moe.num_experts + layout.redundant_experts
    return 4.0 * experts * max_tokens * (2 * spec.hidden_size + _HEADER_BYTES)
