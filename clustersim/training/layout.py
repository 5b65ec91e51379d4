"""How one training job lies on its accelerators, and with which recipe it trains, in Megatron's terms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from clustersim.errors import InputError
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.node import NodeRef
from clustersim.kinds import OneOf, Value
from clustersim.models.layout import Parallelism, check_layout
from clustersim.models.precision import Precision
from clustersim.models.spec import Count, ModelSpec
from clustersim.network.topologies import Network

#: Activations kept for the backward pass; see `Recipe.recompute`.
Recompute = Literal["none", "selective", "full"]
RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
Share = Annotated[float, Field(ge=0, le=1)]


class TrainingCluster(Value):
    """The accelerators of one training job: equal nodes, the last perhaps in part, joined by one network."""

    node: NodeRef
    num_accelerators: Count
    network: Annotated[Network, OneOf("network")] = Field(default="rail_optimised", validate_default=True)
    profile: str | None = None
    """Which measured profile of the accelerator to use; if not given the best, of equals the vendor's kernels'."""

    @property
    def num_nodes(self) -> int:
        """Nodes that the job touches."""
        return -(-self.num_accelerators // self.node.count)


class TrainingLayout(Value):
    """tp x cp x dp x pp accelerators, in this order from neighbours to the far: tp and ep want the scale-up link.

    Experts are dealt to `ep` neighbouring ranks: within tp, or over tp times some of the cp x dp ranks.
    """

    tp: Count = 1
    """Tensor parallel ranks, with sequence parallelism between them (Korthikanti et al., arXiv:2205.05198)."""
    cp: Count = 1
    """Context parallel ranks: each holds a share of every sequence, and gathers keys and values."""
    pp: Count = 1
    """Pipeline stages, scheduled 1F1B."""
    dp: Count = 1
    """Data parallel replicas."""
    ep: Count = 1
    """Expert parallel ranks."""
    virtual_stages: Count = 1
    """Model chunks a stage: above 1 the schedule is interleaved (Narayanan et al., arXiv:2104.04473, 2.2)."""
    micro_batch: Count = 1
    """Sequences of a micro-batch."""

    @property
    def num_accelerators(self) -> int:
        """Accelerators of the job."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def expert_dp(self) -> int:
        """Data parallel copies of an expert."""
        return self.cp * self.dp // self.parallelism.attention_dp

    @property
    def parallelism(self) -> Parallelism:
        """The same in the terms of the operators: one stage's ranks that hold all experts of their layers."""
        return Parallelism(tp=self.tp, pp=self.pp, ep=self.ep, attention_dp=max(1, self.ep // self.tp))

    def num_micro_batches(self, num_sequences: int) -> int:
        """Return the micro-batches of a step of the busiest replica."""
        return -(-num_sequences // (self.dp * self.micro_batch))


class Overlap(Value):
    """Share of each kind of communication that may hide behind the computation beside it; the rest is exposed.

    Never more hides than there is computation. Defaults: what Megatron-Core overlaps without further flags, the data
    parallel one (`--overlap-grad-reduce`, `--overlap-param-gather`).
    """

    tp: Share = 0.0
    cp: Share = 0.0
    ep: Share = 0.0
    """1: as DeepSeek-V3's DualPipe (arXiv:2412.19437, 3.2.1) aims at."""
    dp: Share = 1.0
    """Behind the forward and backward pass of one micro-batch; with `zero: 3`, of every one."""


class Recipe(Value):
    """Number formats, optimizer state, and what is kept, recomputed and overlapped."""

    precision: Literal["bf16", "fp8", "fp8_block"] = "bf16"
    """Of the matrix products of linear layers; attention, LM head and router stay bf16."""
    recompute: Recompute = "none"
    """`none` keeps all inputs of matrix products (attention scores are never kept: flash attention computes them
    anew, which Korthikanti et al. call selective); `selective` computes norms, MLP activations and MLA's
    up-projections anew (as DeepSeek-V3, arXiv:2412.19437, 3.2.3); `full` keeps only the inputs of layers."""
    zero: Annotated[int, Field(ge=0, le=3)] = 1
    """ZeRO stage (arXiv:1910.02054): dp ranks share nothing, optimizer state, also gradients, also weights."""
    gradient_bytes: Annotated[float, Field(gt=0)] = 4.0
    """Of a weight's gradient, as accumulated and reduced: 4 is Megatron's for bf16, 2 DeepSpeed's."""
    master_bytes: Annotated[float, Field(ge=0)] = 4.0
    """Of a weight's fp32 copy."""
    moment_bytes: Annotated[float, Field(ge=0)] = 8.0
    """Of Adam's two moments of a weight: fp32 8; bf16 4 (DeepSeek-V3, arXiv:2412.19437, 3.3.2)."""
    overlap: Overlap = Overlap()
    slowdown: Annotated[float, Field(ge=1)] = 1.0
    """How much longer computation takes in a job than its operators do alone: clocks under sustained load, gaps,
    the slowest machine. 1 is the law itself, which is optimistic; PUBLISHED_SLOWDOWN is what published jobs say."""

    @property
    def formats(self) -> Precision:
        """The formats of the operators."""
        return Precision.model_validate(self.precision)

    @property
    def state_bytes(self) -> float:
        """Bytes a weight: weight, gradient, fp32 copy and moments; 18 by default, 16 with bf16 gradients."""
        return WEIGHT_BYTES + self.gradient_bytes + self.master_bytes + self.moment_bytes


#: The one `slowdown` with the least median error over published jobs on A100 and H100, to a twentieth: fitted, and
#: not used unless asked for. The jobs and both errors stand in docs/background/training.md.
PUBLISHED_SLOWDOWN = 1.25

#: A weight as the matrix products read it, and as data parallel ranks gather it: bf16.
WEIGHT_BYTES = 2.0


def check_training_layout(spec: ModelSpec, cluster: TrainingCluster, layout: TrainingLayout) -> None:
    """Raise InputError with every reason why this model cannot be laid out so."""
    found = list(_problems(spec, cluster, layout))
    if found:
        raise InputError("\n".join(found))


def _problems(spec: ModelSpec, cluster: TrainingCluster, layout: TrainingLayout) -> Iterator[str]:
    num = cluster.num_accelerators
    if layout.num_accelerators != num:
        model = layout.tp * layout.cp * layout.pp
        mend = f"dp {num // model}" if num % model == 0 else f"a multiple of {model} accelerators"
        yield f"tp x cp x pp x dp is {layout.num_accelerators}, not the {num} accelerators; use {mend}"
    low, high = sorted((layout.tp, layout.ep))
    if high % low:
        yield f"ep {layout.ep} and tp {layout.tp}: one must be a multiple of the other"
        return
    spread = layout.parallelism.attention_dp
    if (layout.cp * layout.dp) % spread:
        yield f"ep {layout.ep} takes {spread} of the {layout.cp * layout.dp} cp x dp ranks, which it must divide"
    yield from check_layout(spec, layout.parallelism)
    chunks = layout.pp * layout.virtual_stages
    if chunks > spec.num_layers:
        most = spec.num_layers // layout.pp
        yield f"pp x virtual_stages is {chunks}, above the {spec.num_layers} layers; virtual_stages: 1 to {most}"
    if layout.virtual_stages > 1 and layout.pp == 1:
        yield f"virtual_stages {layout.virtual_stages} needs pp above 1"


def check_precision(device: Accelerator, recipe: Recipe) -> None:
    """Raise InputError where the device cannot multiply in the recipe's formats."""
    compute = recipe.formats.compute
    if compute not in device.precisions:
        raise InputError(f"{device.name} does not multiply in {compute}; use precision: bf16")
