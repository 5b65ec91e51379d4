"""The trivial baseline: what the bare roofline says of a run, without overheads, queues or a simulation.

Every operator takes max(FLOP / peak, bytes / bandwidth), collectives and the host take nothing, and operators follow
each other. A spreadsheet does as much; it is given one constant, chosen on the rows that it is judged by (`errors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clustersim.models.ops import COLLECTIVES
from clustersim.models.step import StepShape
from clustersim.scenario.plan import DeploymentPlan
from clustersim.serving.schedulers.static_batch import StaticBatch
from clustersim.study.validation.case import Case


@dataclass(frozen=True)
class Roofline:
    """What the roofline says of a run: seconds, and tokens a second over all GPUs."""

    ttft_s: float
    tpot_s: float
    e2e_s: float
    output_tokens_per_s: float
    makespan_s: float


def roofline(case: Case, plans: Sequence[DeploymentPlan]) -> Roofline:
    """Return the roofline's view of a case, whose batch is taken as full from the first step to the last.

    In a static batch, or where other GPUs prefill, TPOT is one decode step at the mean context. Otherwise each of
    a batch's B prefills halts the decoding of the others: TPOT is a step and B prefills shared by O outputs.
    """
    decode, prefill = plans[0], plans[-1]
    workload, scheduler = case.scenario.workloads[0], decode.deployment.scheduler
    inputs, outputs = case.mean_input_tokens, case.mean_output_tokens
    load = workload.closed_loop.concurrency if workload.closed_loop else workload.num_requests or 1
    replicas, copies = decode.deployment.replicas, decode.deployment.parallelism.attention_dp
    batch = min(load / replicas, scheduler.max_num_seqs * copies)
    static = isinstance(scheduler, StaticBatch)
    together = batch if static else 1
    prompts = inputs * together
    prefill_s = _seconds(
        prefill, StepShape(0, 0, prompts, prompts * (inputs + 1) / 2, prompts, together, inputs)
    )
    step_s = _seconds(decode, StepShape(batch, batch * (inputs + outputs / 2)))
    shared = not static and prefill is decode
    tpot_s = step_s + batch * prefill_s / outputs if shared else step_s
    e2e_s = prefill_s + outputs * tpot_s
    busy_s = outputs * tpot_s if shared else e2e_s
    rate = replicas * batch * outputs / busy_s
    return Roofline(prefill_s, tpot_s, e2e_s, rate, load / (replicas * batch) * e2e_s)


def _seconds(plan: DeploymentPlan, shape: StepShape) -> float:
    cost = plan.cost
    bandwidth = cost.device.memory_bandwidth_bytes_per_s.value
    return sum(
        op.count * max(float(op.flops) / cost.fit(op.family, op.dtype)[1], float(op.bytes) / bandwidth)
        for op in cost.ops(shape)
        if op.family not in COLLECTIVES
    )
