"""Where the time of one step goes, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clustersim.cost.model import PARTS
from clustersim.errors import InputError, unknown
from clustersim.models.step import StepShape, rank_shape
from clustersim.scenario.plan import DeploymentPlan


@dataclass(frozen=True)
class OpRow:
    """One operator of the step: per call, and over its `count` calls."""

    name: str
    shape: str
    count: int
    flops: float
    bytes: float
    """Moved in memory, or sent by one rank."""
    call_s: float
    total_s: float
    bound_by: str
    evidence: str
    source: str


@dataclass(frozen=True)
class StepAccount:
    """One step of one replica on its busiest accelerator."""

    name: str
    title: str
    ops: list[OpRow]
    device_s: float
    host_s: float
    """What the host adds to the device's time."""
    hidden_host_s: float
    """Host time behind the device's, which an engine that prepares the next step meanwhile does not add."""
    host_evidence: str
    host_source: str
    num_kernels: int
    graph: bool
    launch_wall_s: float
    """Kernels one after another at the device's launch latency: no step that launches each from the host is shorter."""
    parts: dict[str, float]
    """Seconds by part."""
    note: str = ""
    """Why no engine would run this step, where that is so."""

    @property
    def step_s(self) -> float:
        """The whole step."""
        return self.device_s + self.host_s

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self) | {"step_s": self.step_s}


def pick(plans: Sequence[DeploymentPlan], name: str | None) -> DeploymentPlan:
    """Return the plan of the deployment called `name`, the first for None."""
    if name is None:
        return plans[0]
    by_name = {plan.deployment.name: plan for plan in plans}
    if name not in by_name:
        raise InputError(unknown("deployment", name, by_name))
    return by_name[name]


def explain(plan: DeploymentPlan, name: str, shape: StepShape) -> StepAccount:
    """Return the account of one step of a single shape."""
    cost = plan.cost
    graph = bool(cost.uses_graph(shape))
    rows, kernels = [], 0
    parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for op in cost.ops(shape):
        estimate = cost.estimate(op, graph)
        total, launch = op.count * float(estimate.seconds), op.count * float(estimate.launch_s)
        moved = float(op.bytes) if op.ranks == 1 else float(op.message_bytes)
        rows.append(
            OpRow(op.name, op.shape, op.count, float(op.flops), moved, float(estimate.seconds), total,
                  estimate.bound_by, "measured" if estimate.measured > 0.5 else estimate.evidence, estimate.source)
        )  # fmt: skip
        parts["launch"] += launch
        parts[PARTS[int(estimate.work_part)]] += total - launch
        kernels += op.count
    device_s = sum(row.total_s for row in rows)
    rank = rank_shape(shape, cost.parallelism)
    engine = cost.engine
    host_s = float(engine.step_s(device_s, rank.rows)) - device_s  # type: ignore[arg-type]  # a scalar array
    hidden_s = min(float(engine.host_s(rank.rows)), device_s) if engine.overlapped else 0.0
    parts["host"] = host_s
    device = cost.device
    layout = plan.deployment.parallelism
    title = (
        f"{name} step of {plan.deployment.model.name} on {layout.num_accelerators} x {device.name} "
        f"(tp {layout.tp}, pp {layout.pp}, ep {layout.ep}, attention_dp {layout.attention_dp}): {_say(name, shape)}"
        + (f"; shapes are of one of {layout.pp} micro-batches" if layout.pp > 1 else "")
    )
    overhead = engine.step_overhead_s
    return StepAccount(name, title, rows, device_s, host_s, hidden_s, overhead.evidence, overhead.source, kernels,
                       graph, kernels * device.kernel_launch_s.value, parts, _beyond(plan, name, shape))  # fmt: skip


def _beyond(plan: DeploymentPlan, name: str, shape: StepShape) -> str:
    """Return what the KV cache could hold instead, where it cannot hold the step's context."""
    held = plan.memory.kv_tokens
    if name == "decode":
        batch, context = int(shape.decode_seqs), int(shape.decode_context)  # type: ignore[arg-type]  # one shape
        if context > held:
            most = held * batch // context
            return f"The KV cache holds {held:,} tokens: at most {most:,} sequences of this context."
    elif int(shape.prefill_keys) > min(plan.max_model_len, plan.memory.tokens_per_rank):  # type: ignore[arg-type]  # one shape
        return f"A request has at most {min(plan.max_model_len, plan.memory.tokens_per_rank):,} tokens here."
    return ""


def _say(name: str, shape: StepShape) -> str:
    if name == "decode":
        batch, context = int(shape.decode_seqs), int(shape.decode_context)  # type: ignore[arg-type]  # one shape
        return f"{batch} sequences of {context // batch:,} tokens of context"
    tokens, keys = int(shape.prefill_tokens), int(shape.prefill_keys)  # type: ignore[arg-type]  # one shape
    return f"{tokens:,} tokens of one prompt" + (f" after {keys - tokens:,} cached" if keys > tokens else "")
