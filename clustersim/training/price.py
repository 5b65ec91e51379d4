"""What a micro-batch takes on one rank: its operators, priced by the law and the measured rows of the serving side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from clustersim.cost.collectives import Fabric
from clustersim.cost.host import ServingEngine
from clustersim.cost.model import CostModel
from clustersim.cost.profile import Profile, generic, load_profile
from clustersim.errors import InputError
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.reference import load
from clustersim.models.attention import attention_kernels
from clustersim.models.layout import Parallelism
from clustersim.models.ops import Op
from clustersim.models.spec import ModelSpec
from clustersim.models.step import Numbers
from clustersim.training.layout import Recipe, Recompute, TrainingCluster, TrainingLayout, check_precision
from clustersim.training.ops import Group, Pass, micro_batch_ops

#: The profile preferred among equals: fitted on the vendor's own kernels, which training frameworks call too.
_KERNELS = "silicon"
_WORK = ("flops", "bytes", "depth", "tasks")


@dataclass(frozen=True)
class Times:
    """Seconds of one pass of all layers (or of the head) for one micro-batch; FLOP and bytes beside them."""

    compute_s: float
    exchange_s: Mapping[Group, float]
    flops: float
    bytes: float


@dataclass(frozen=True)
class MicroBatchTimes:
    """One micro-batch on one rank, all layers one after another; see MicroBatchOps."""

    forward: Times
    backward: Times
    light: Times
    head: Times
    evidence: Mapping[str, float]
    """Evidence -> its share of the computation's seconds."""


@dataclass(frozen=True)
class TrainingCost:
    """Prices the operators of one model, recipe and sequence length on one cluster; remembers what it priced."""

    spec: ModelSpec
    cluster: TrainingCluster
    recipe: Recipe
    seq_len: int
    _known: dict[tuple[int, int, int, int], MicroBatchTimes] = field(
        default_factory=dict, compare=False, repr=False
    )
    _variants: dict[tuple[int, Recompute], TrainingCost] = field(
        default_factory=dict, compare=False, repr=False
    )

    @cached_property
    def profile(self) -> Profile:
        """The measured or fitted profile of the accelerator, or the generic one."""
        device = self.cluster.node.accelerator
        found = load_profile(device.name.rstrip("*"), self.cluster.profile, _KERNELS)
        if found is None and device.needs_profile:
            raise InputError(
                f"nothing is known of {device.name} until it is measured: python -m calibrate run"
            )
        return found or generic()

    @cached_property
    def device(self) -> Accelerator:
        """The accelerator, with the figures measured on it where its profile says so."""
        device = self.profile.applied_to(self.cluster.node.accelerator)
        check_precision(device, self.recipe)
        return device

    @cached_property
    def fabric(self) -> Fabric:
        """What joins the ranks."""
        node, nodes = self.cluster.node, self.cluster.num_nodes
        return Fabric(node.scale_up, node.count, self.cluster.network.path(node, nodes), self.profile)

    @cached_property
    def model(self) -> CostModel:
        """The cost model that serving uses; no engine runs beside it."""
        engine = load("engines", ServingEngine, "ideal")
        formats = self.recipe.formats
        return CostModel(self.spec, Parallelism(), formats, self.device, self.profile, self.fabric, engine)

    @cached_property
    def peak_flops_per_s(self) -> float:
        """Dense peak in the recipe's precision: what MFU is a share of."""
        return self.device.peak_flops_per_s(self.recipe.formats.compute).value

    @cached_property
    def memory_bytes_per_s(self) -> float:
        """Bandwidth that operators which only move bytes reach."""
        fit, _ = self.model.fit("elementwise", "bf16")
        return self.device.memory_bandwidth_bytes_per_s.value * fit.memory_frac

    @cached_property
    def attention_flops_per_token(self) -> tuple[float, float]:
        """FLOP of scores and values of one token, forward: causal, and with nothing masked."""
        found = []
        for pairs in (self.seq_len * (self.seq_len + 1) / 2, float(self.seq_len) ** 2):
            kernels = attention_kernels(self.spec, Parallelism(), self.recipe.formats)[0]
            work = [kernel.work(float(self.seq_len), pairs, float(self.seq_len), 1.0) for kernel in kernels]
            total = sum(kernel.layers * each[0] for kernel, each in zip(kernels, work, strict=True))
            found.append(total / self.seq_len)
        return found[0], found[1]

    def varied(self, zero: int, recompute: Recompute) -> TrainingCost:
        """Return the same with another recipe that changes no operator, so that what was priced is kept."""
        key = (zero, recompute)
        if key not in self._variants:
            recipe = self.recipe.model_copy(update={"zero": zero, "recompute": recompute})
            other = replace(self, recipe=recipe)
            for name in ("profile", "device", "fabric", "model", "attention_flops_per_token"):
                other.__dict__[name] = getattr(self, name)
            self._variants[key] = other
        return self._variants[key]

    def micro_batch(self, layout: TrainingLayout) -> MicroBatchTimes:
        """Return the times of one micro-batch; they depend on tp, cp, ep and the size of the micro-batch alone."""
        key = (layout.tp, layout.cp, layout.ep, layout.micro_batch)
        if key not in self._known:
            self.tabulate(layout, (layout.micro_batch,))
        return self._known[key]

    def tabulate(self, layout: TrainingLayout, sizes: tuple[int, ...]) -> None:
        """Price micro-batches of several sizes at once."""
        at = np.array(sizes, dtype=np.float64)
        found = micro_batch_ops(self.spec, layout, self.recipe, self.seq_len, at)
        passes = (found.forward, found.backward, found.light, found.head)
        priced = [self._computed(each.compute, len(sizes)) for each in passes]
        moved = [self._exchanged(each, len(sizes)) for each in passes]
        for index, size in enumerate(sizes):
            forward, backward, light, head = (
                Times(float(seconds[index]), {group: float(s[index]) for group, s in exchange.items()},
                      float(flops[index]), float(moved_bytes[index]))
                for (seconds, flops, moved_bytes, _), exchange in zip(priced, moved, strict=True)
            )  # fmt: skip
            shares: Counter[str] = Counter()
            for *_, evidence in priced:
                shares.update({name: float(s[index]) for name, s in evidence.items()})
            total = sum(shares.values())
            known = {name: s / total for name, s in shares.items()}
            key = (layout.tp, layout.cp, layout.ep, size)
            self._known[key] = MicroBatchTimes(forward, backward, light, head, known)

    def _computed(self, ops: Iterable[Op], num: int) -> tuple[Numbers, Numbers, Numbers, dict[str, Numbers]]:
        """Return seconds, FLOP and bytes (num,), and seconds by evidence; operators of a family priced at once."""
        families: dict[tuple[str, str], list[Op]] = defaultdict(list)
        for op in ops:
            families[(op.family, op.dtype)].append(op)
        total, flops, moved = (np.zeros(num) for _ in range(3))
        evidence: dict[str, Numbers] = {}
        for same in families.values():
            flop, byte, depth, tasks = (
                np.stack([np.broadcast_to(getattr(op, name), (num,)) for op in same]) for name in _WORK
            )
            first = same[0]
            together = Op(
                first.name, first.family, first.dtype, 1, flops=flop, bytes=byte, depth=depth, tasks=tasks
            )
            estimate = self.model.estimate(together, False)
            counts = np.array([op.count for op in same])
            seconds = counts @ estimate.seconds
            total += seconds
            flops += counts @ flop
            moved += counts @ byte
            evidence[estimate.evidence] = evidence.get(estimate.evidence, np.zeros(num)) + seconds
        return total, flops, moved, evidence

    def _exchanged(self, each: Pass, num: int) -> dict[Group, Numbers]:
        found: dict[Group, Numbers] = {}
        for group, ops in each.exchange.items():
            seconds = [op.count * self.fabric.time(op).seconds for op in ops]
            found[group] = np.sum(seconds, axis=0) if seconds else np.zeros(num)
        return found

    def collective_s(self, op: Op) -> float:
        """Return the seconds of one collective; nothing for one rank."""
        return float(self.fabric.time(op).seconds) if op.ranks > 1 else 0.0
