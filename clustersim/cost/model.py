"""The cost model: how long the operators of a step take on a device, what binds them, and who says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.collectives import Fabric
from clustersim.cost.host import ServingEngine
from clustersim.cost.profile import Fit, Profile
from clustersim.cost.tables import OpTable, load_table
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.figure import BY_USER, Evidence
from clustersim.models.layout import Parallelism
from clustersim.models.ops import COLLECTIVES, Op, step_ops
from clustersim.models.precision import Precision
from clustersim.models.spec import ModelSpec
from clustersim.models.step import Numbers, StepShape, rank_shape

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
    _tables: dict[tuple[str, str, str], OpTable | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    def ops(self, shape: StepShape) -> list[Op]:
        """Return the operators of a step on the busiest rank."""
        return step_ops(self.spec, self.parallelism, self.precision, shape, self.imbalance)

    def estimate(self, op: Op, graph: bool) -> Estimate:
        """Return the time of one call of `op`; with `graph` it is replayed from a captured graph.

        Outside a graph the host launches each kernel, so that none takes less than the launch latency.
        """
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
        if not graph:
            seconds = np.maximum(seconds, self.device.kernel_launch_s.value)
        present = (op.flops + op.bytes) > 0
        seconds, work = np.where(present, seconds, 0.0), np.where(present, work, 0.0)
        part = np.where(compute > memory, PARTS.index("compute"), PARTS.index("memory"))
        error = fit.error.median_ape_frac if fit.error else None
        if error is not None and fit.table_error is not None and table is not None:
            error += float(np.mean(measured)) * (fit.table_error.median_ape_frac - error)
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
        """Return whether a step is pure decode and small enough for a captured graph."""
        rank = rank_shape(shape, self.parallelism)
        small = rank.decode_seqs <= self.engine.cuda_graph_max_batch
        return np.asarray((rank.prefill_tokens == 0) & small)

    def device_s(self, shape: StepShape, graph: bool) -> Numbers:
        """Return the time that the device works on a step, all stages."""
        total: Numbers = np.zeros(())
        for op in self.ops(shape):
            total = total + op.count * self.estimate(op, graph).seconds
        return total

    def step_s(self, shape: StepShape, graph: bool) -> Numbers:
        """Return the whole time of a step, host included."""
        sequences = rank_shape(shape, self.parallelism).rows
        return self.engine.step_s(self.device_s(shape, graph), sequences)
