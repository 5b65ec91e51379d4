"""Where the time of one step goes, operator by operator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from clustersim.cost.model import PARTS, CostModel
from clustersim.cost.phases import Phase, phases, step_s
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
    launch_s: float
    """Of the total, what the calls cost however small they are."""
    work_part: str
    """What binds the rest."""


@dataclass(frozen=True)
class Speculated:
    """A step in which a draft's tokens are verified: what it takes, and what it gives."""

    draft_s: float
    verify_s: float
    num_draft_tokens: int
    tokens_per_step: float
    """Tokens of each sequence, in the mean."""
    token_s: float
    """The step over its tokens."""
    plain_step_s: float
    """A step of the same sequences without drafts."""

    @property
    def gain(self) -> float:
        """How many times as fast tokens come as without drafts."""
        return self.plain_step_s / self.token_s


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
    speculated: Speculated | None = None
    """Of a decode step with drafts."""

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
    made = [phase for phase in phases(cost, shape) if phase.present]
    rows = [row for phase in made for row in _rows(phase)]
    parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for row in rows:
        parts["launch"] += row.launch_s
        parts[row.work_part] += row.total_s - row.launch_s
    kernels = sum(row.count for row in rows)
    device_s = sum(row.total_s for row in rows)
    engine = cost.engine
    sequences = rank_shape(shape, cost.parallelism).sequences
    host_s = float(step_s(cost, shape, np.asarray(device_s))) - device_s
    hidden_s = min(float(engine.host_s(sequences)), device_s) if engine.overlapped else 0.0
    parts["host"] = host_s
    device = cost.device
    layout = plan.deployment.parallelism
    title = (
        f"{name} step of {plan.deployment.model.name} on {layout.num_accelerators} x {device.name} "
        f"(tp {layout.tp}, pp {layout.pp}, ep {layout.ep}, attention_dp {layout.attention_dp}): {_say(name, shape)}"
        + (f"; shapes are of one of {layout.pp} micro-batches" if layout.pp > 1 else "")
        + ("; shapes are of one of two halves" if any(cost.in_halves(each.shape) for each in made) else "")
    )
    overhead = engine.step_overhead_s
    return StepAccount(name, title, rows, device_s, host_s, hidden_s, overhead.evidence, overhead.source, kernels,
                       graph, kernels * device.kernel_launch_s.value, parts, _beyond(plan, name, shape),
                       _speculated(cost, made, shape, device_s + host_s))  # fmt: skip


def _rows(phase: Phase) -> Iterator[OpRow]:
    cost, prefix = phase.cost, "" if phase.name == "target" else f"{phase.name}_"
    graph = bool(cost.uses_graph(phase.shape))
    for call in cost.calls(phase.shape, graph):
        if not call.times:
            continue
        op, estimate = call.op, call.replayed if graph else call.eager
        count, total = round(float(call.times)) * phase.count, float(call.seconds) * phase.count
        moved = float(op.bytes) if op.ranks == 1 else float(op.message_bytes)
        yield OpRow(prefix + op.name, op.shape, count, float(op.flops), moved, float(estimate.seconds),
                    total, estimate.bound_by,
                    "measured" if estimate.measured > 0.5 else estimate.evidence, estimate.source,
                    total - float(call.work_s) * phase.count, PARTS[int(estimate.work_part)])  # fmt: skip


def _speculated(cost: CostModel, made: list[Phase], shape: StepShape, seconds: float) -> Speculated | None:
    """Return what the drafts of a decode step cost and give, None without drafts."""
    speculation = cost.speculation
    if speculation is None or not speculation.num_draft_tokens or not shape.decode_seqs:
        return None
    spent = {name: sum(float(p.device_s) for p in made if p.name == name) for name in ("draft", "target")}
    plain = replace(cost, speculation=None)
    (alone,) = phases(plain, shape)
    tokens = speculation.tokens_per_step
    return Speculated(spent["draft"], spent["target"], speculation.num_draft_tokens, tokens, seconds / tokens,
                      float(step_s(plain, shape, alone.device_s)))  # fmt: skip


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
