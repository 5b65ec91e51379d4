"""The cost model: how long the operators of a step take on a device, what binds them, and who says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clustersim.cost.collectives import Fabric
from clustersim.cost.host import ServingEngine
from clustersim.cost.overlap import EXCHANGES, half, split
from clustersim.cost.profile import Fit, Profile
from clustersim.cost.speculation import Speculation
from clustersim.cost.tables import OpTable, load_table
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.figure import BY_USER, Evidence
from clustersim.models.exchange import WAITS_FOR_HOST
from clustersim.models.layout import Parallelism
from clustersim.models.lora import Lora, lora_ops
from clustersim.models.ops import COLLECTIVES, EVEN, Op, Piece, rank_ops
from clustersim.models.popularity import Popularity
from clustersim.models.precision import Precision
from clustersim.models.spec import ModelSpec
from clustersim.models.step import Numbers, RankShape, StepShape, rank_shape

#: Where a token's time goes. `launch` is what an operator costs however small it is; `host` the serving engine.
Part = Literal["compute", "memory", "network", "launch", "host"]
PARTS: Sequence[Part] = ("compute", "memory", "network", "launch", "host")


@dataclass(frozen=True)
class Estimate:
    """The time of one call of an operator (arrays where the shape has arrays), and how it is known.

    seconds = work_s + launch_s: what grows with the work, and what the call costs however small it is (a
    collective's latency is its network's, and part of the work).
    rel_error is the median relative error on held-out shapes, where there is one: of the fit, and as far as measured
    rows answer, with their correction.
    """

    seconds: Numbers
    work_s: Numbers
    launch_s: Numbers
    work_part: Numbers
    """Index into PARTS of what binds the work: compute, memory or network."""
    evidence: Evidence
    source: str
    rel_error: float | None = None
    measured: Numbers = field(default_factory=lambda: np.zeros(()))
    """How much the answer is that of measured rows: 1 at a row, 0 where the law stands alone."""

    @property
    def bound_by(self) -> Part:
        """Return what binds the operator, of a single shape."""
        return "launch" if self.launch_s > self.work_s else PARTS[int(self.work_part)]


class Call(NamedTuple):
    """An operator that is called `times` in a step, and its cost: replayed from a graph, or launched by the host."""

    op: Op
    times: Numbers
    graph: NDArray[np.bool_]
    replayed: Estimate
    eager: Estimate
    exposed_frac: Numbers = np.ones(())
    """Share of its time in which nothing else of the step goes on: what it adds to the step."""

    @property
    def seconds(self) -> Numbers:
        """Time that all its calls add to a step."""
        each = np.where(self.graph, self.replayed.seconds, self.eager.seconds)
        return np.asarray(self.times * self.exposed_frac * each)

    @property
    def work_s(self) -> Numbers:
        """What of that grows with the work."""
        each = np.where(self.graph, self.replayed.work_s, self.eager.work_s)
        return np.asarray(np.minimum(self.times * self.exposed_frac * each, self.seconds))


@dataclass(frozen=True)
class CostModel:
    """One replica's operators on one device. Pure arithmetic: same shape, same answer."""

    spec: ModelSpec
    parallelism: Parallelism
    precision: Precision
    device: Accelerator
    profile: Profile
    fabric: Fabric
    engine: ServingEngine
    imbalance: float = 1.0
    speculation: Speculation | None = None
    """Who drafts tokens for this model; `cost.phases` has the passes that make a step then."""
    popularity: Popularity = EVEN
    """How routing spreads tokens over experts."""
    lora: Lora | None = None
    """The adapters whose products every step has."""
    _tables: dict[tuple[str, str, str], OpTable | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    @cached_property
    def draft(self) -> CostModel | None:
        """The cost model of the draft, None where no accelerator drafts."""
        if self.speculation is None:
            return None
        draft = self.speculation.at_work(self.spec, self.parallelism, self.precision)
        if draft is None:
            return None
        own, whole = draft.spec.moe, self.spec.moe
        alike = own and whole and (own.num_experts, own.top_k) == (whole.num_experts, whole.top_k)
        popularity = self.popularity if alike else EVEN
        return replace(self, spec=draft.spec, parallelism=draft.parallelism, precision=draft.precision,
                       speculation=None, popularity=popularity, lora=None)  # fmt: skip

    def ops(self, shape: StepShape) -> list[Op]:
        """Return the operators of a step on the busiest rank, taken whole."""
        return self.rank_ops(rank_shape(shape, self.parallelism))

    def rank_ops(self, rank: RankShape) -> list[Op]:
        """Return the operators of a micro-batch of a rank."""
        found = rank_ops(self.spec, self.parallelism, self.precision, rank, self.imbalance, self.popularity)
        if self.lora is not None:
            found += lora_ops(self.spec, self.parallelism, self.precision, self.lora, rank)
        return found

    def estimate(self, op: Op, graph: bool) -> Estimate:
        """Return the time of one call of `op`; with `graph` it is replayed from a captured graph.

        Outside a graph the host launches each kernel, so that none takes less than the launch latency.
        """
        replayed = self._replayed(op)
        return replayed if graph else self._launched(op, replayed)

    def _launched(self, op: Op, replayed: Estimate) -> Estimate:
        if op.family in COLLECTIVES:
            return replayed
        launched = np.maximum(replayed.seconds, self.device.kernel_launch_s.value)
        seconds = np.where((op.flops + op.bytes) > 0, launched, 0.0)
        return replace(replayed, seconds=seconds, launch_s=seconds - replayed.work_s)

    def _replayed(self, op: Op) -> Estimate:
        if op.family in COLLECTIVES:
            timing = self.fabric.time(op)
            network = np.full(np.shape(timing.seconds), PARTS.index("network"))
            return Estimate(timing.seconds, timing.seconds, np.zeros_like(timing.seconds), network,
                            timing.evidence, f"{timing.algorithm}: {timing.source}", timing.rel_error)  # fmt: skip
        fit, peak = self.fit(op.family, op.dtype)
        bandwidth = self.device.memory_bandwidth_bytes_per_s.value
        size = (op.flops, op.bytes, op.depth, op.tasks)
        seconds = fit.seconds(*size, peak_flops_per_s=peak, bandwidth_bytes_per_s=bandwidth)
        table = self.table(op.family, op.dtype, op.kernel)
        measured: Numbers = np.zeros(())
        if table is not None:
            correction = table.correct(*size)
            raw = np.maximum(op.flops / peak, op.bytes / bandwidth)
            seconds, measured = np.maximum(seconds * correction.factor, raw), correction.measured
        compute = op.flops / (peak * fit.compute_frac)
        memory = op.bytes / (bandwidth * fit.memory_frac)
        work = np.maximum(seconds - fit.overhead_s, np.minimum(np.maximum(compute, memory), seconds))
        present = (op.flops + op.bytes) > 0
        seconds, work = np.where(present, seconds, 0.0), np.where(present, work, 0.0)
        part = np.where(compute > memory, PARTS.index("compute"), PARTS.index("memory"))
        error = fit.error.median_ape_frac if fit.error else None
        if error is not None and fit.table_error is not None and table is not None:
            error += float(np.mean(measured)) * (fit.table_error.median_ape_frac - error)
        if self.profile.device not in ("generic", self.device.name.rstrip("*")):
            why = f"{self.device.name} was not measured, {self.profile.device} in its place; {fit.source}"
            return Estimate(seconds, work, seconds - work, part, "assumed", why)
        if self.is_varied(fit):
            why = f"a figure of the device was given by the user, no such device was measured; {fit.source}"
            return Estimate(seconds, work, seconds - work, part, "assumed", why)
        return Estimate(seconds, work, seconds - work, part, fit.evidence, fit.source, error, measured)

    def is_varied(self, fit: Fit) -> bool:
        """Return whether a user changed what an operator of this fit depends on: then nobody measured it."""
        figures = (self.device.memory_bandwidth_bytes_per_s, self.device.peak_flops_per_s(fit.peak))
        return any(figure.source == BY_USER for figure in figures)

    def table(self, family: str, dtype: str, kernel: str = "") -> OpTable | None:
        """Return the device's measured rows of a family of operators, of one kernel where given, if there are some."""
        key = (family, dtype, kernel)
        if key not in self._tables:
            self._tables[key] = load_table(self.profile, family, dtype, kernel)
        return self._tables[key]

    def fit(self, family: str, dtype: str) -> tuple[Fit, float]:
        """Return the fitted constants of a family of operators, and the peak they are a share of, in FLOP/s.

        A device that cannot multiply in the operator's type widens its operands to bf16.
        """
        fit = self.profile.fit(family, dtype)
        if fit.peak not in self.device.precisions:
            fit = self.profile.fit(family, "w8a16" if family in ("gemm", "moe") else "bf16")
        device = self.device
        share = {"bf16": device.matmul_frac, "fp8": device.fp8_matmul_frac}.get(fit.peak)
        if self.profile.device == "generic" and family == "gemm" and share is not None:
            # A published share of this device's peak is better than the prior for all devices.
            source = f"{share.source}; the rest: {fit.source}"
            fit = fit.model_copy(update={"compute_frac": share.value, "source": source})
        return fit, device.peak_flops_per_s(fit.peak).value

    @property
    def peak_flops_per_s(self) -> float:
        """Return the dense peak in which most of the model multiplies: what MFU is a share of."""
        compute = self.precision.compute
        return self.device.peak_flops_per_s(compute if compute in self.device.precisions else "bf16").value

    def uses_graph(self, shape: StepShape) -> NDArray[np.bool_]:
        """Return whether a step is pure decode and small enough for a captured graph, with kernels that it can hold."""
        rank = rank_shape(shape, self.parallelism)
        small = rank.decode_seqs <= self.engine.cuda_graph_max_batch
        held = self.parallelism.all_to_all not in WAITS_FOR_HOST
        return np.asarray((rank.prefill_tokens == 0) & small & held)

    def calls(self, shape: StepShape, graph: ArrayLike) -> list[Call]:
        """Return the operators of a step as they follow each other, `graph` where it is replayed from a graph.

        Of a step that runs in two halves, those of both, and of their exchanges as much as nothing hides.
        """
        rank = rank_shape(shape, self.parallelism)
        whole = self._priced(self.rank_ops(rank), graph)
        if not self.parallelism.two_batch_overlap:
            return whole
        halves = self._priced(self.rank_ops(half(rank)), graph)
        pieces = {
            piece: _total(call for call in halves if call.op.piece == piece) for piece in get_args(Piece)
        }
        found = split(self.spec, self.parallelism, pieces, rank.prefill_tokens == 0)
        splits = found.seconds < _total(whole)
        return [
            *(call._replace(times=np.where(splits, 0.0, call.times)) for call in whole),
            *(call._replace(times=np.where(splits, 2 * call.times, 0.0),
                            exposed_frac=found.exposed_frac if call.op.piece in EXCHANGES else call.exposed_frac)
              for call in halves),
        ]  # fmt: skip

    def in_halves(self, shape: StepShape) -> bool:
        """Return whether a step of a single shape runs in two halves."""
        calls = self.calls(shape, self.uses_graph(shape))
        return any(call.times and call.op.count != call.times for call in calls)

    def _priced(self, ops: list[Op], graph: ArrayLike) -> list[Call]:
        found = []
        for op in ops:
            replayed = self._replayed(op)
            times, eager = np.asarray(float(op.count)), self._launched(op, replayed)
            found.append(Call(op, times, np.asarray(graph, dtype=bool), replayed, eager))
        return found

    def device_s(self, shape: StepShape, graph: ArrayLike) -> Numbers:
        """Return the time that the device works on a step, all stages."""
        return _total(self.calls(shape, graph))

    def step_s(self, shape: StepShape, graph: ArrayLike) -> Numbers:
        """Return the whole time of a step of this model alone, host included."""
        sequences = rank_shape(shape, self.parallelism).sequences
        return self.engine.step_s(self.device_s(shape, graph), sequences)


def _total(calls: Iterable[Call]) -> Numbers:
    total: Numbers = np.zeros(())
    for call in calls:
        total = total + call.seconds
    return total
