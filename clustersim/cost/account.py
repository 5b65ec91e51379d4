"""Where the time of a replica went: by part, by operator and by evidence, with its use of arithmetic and memory.

Runs are sampled at points equally spaced in the time that replicas were busy, so that a mean over the points is a
mean over busy time; each point is priced operator by operator with the cost model that timed it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from clustersim.cost.model import PARTS, CostModel
from clustersim.cost.phases import phases, step_s
from clustersim.models.step import StepShape
from clustersim.records import Floats, Ints

_POINTS = 10_000

#: Standard relative error taken for operators whose fit carries none, by evidence: a judgement, not a measurement.
_ERROR_OF_EVIDENCE = {"measured": 0.05, "fitted": 0.1, "datasheet": 0.2, "published": 0.2, "assumed": 0.3}
#: A median absolute error is this many standard deviations of a normal distribution.
_MEDIAN_TO_SIGMA = 1 / 0.6745


@dataclass(frozen=True)
class Account:
    """Shares at sampled points of busy time; point i lies in run `run[i]`.

    parts: part -> share of the step at each point, adding up to 1. operators: name -> mean share, a draft's as
    "draft_...". evidence: -> mean share. phases: target (the model's own pass), draft, host -> mean share. All are of
    the step that the engine runs: with a speculation, the one that drafts and verifies.
    compute_use, memory_use: of the peak for the deployment's precision, and of the bandwidth, at each point.
    rel_error: standard relative error of a step's time, operators of a family wrong together, families independent.
    """

    run: Ints
    parts: Mapping[str, Floats]
    operators: Mapping[str, float]
    evidence: Mapping[str, float]
    compute_use: Floats
    memory_use: Floats
    rel_error: float
    phases: Mapping[str, float] = field(default_factory=dict)


def account(cost: CostModel, runs: Mapping[str, Floats]) -> Account:
    """Return the account of runs (columns as in RunRecords) of replicas that `cost` describes."""
    seconds = runs["end_s"] - runs["start_s"]
    total = float(seconds.sum())
    if total <= 0:
        nothing = np.zeros(0)
        return Account(
            np.zeros(0, dtype=np.int64), dict.fromkeys(PARTS, nothing), {}, {}, nothing, nothing, 0.0
        )
    count = min(_POINTS, max(2000, len(seconds)))
    at = (np.arange(count) + 0.5) / count * total
    run = np.minimum(np.searchsorted(np.cumsum(seconds), at), len(seconds) - 1)
    middle = runs["context_tokens"] + runs["batch"] * (runs["num_steps"] - 1) / 2
    pick = {name: column[run] for name, column in runs.items()}
    shape = StepShape(
        pick["batch"], middle[run], pick["prefill_tokens"], pick["prefill_pairs"], pick["prefill_keys"],
        pick["num_prefills"], pick["largest_chunk"],
    )  # fmt: skip
    parts: dict[str, Floats] = {part: np.zeros(count) for part in PARTS}
    operators: dict[str, float] = defaultdict(float)
    evidence: dict[str, float] = defaultdict(float)
    variance: dict[str, float] = defaultdict(float)
    flops, moved = np.zeros(count), np.zeros(count)
    shares: dict[str, float] = defaultdict(float)
    priced = [
        (phase.name, call._replace(times=call.times * phase.count * phase.present))
        for phase in phases(cost, shape)
        for call in phase.cost.calls(phase.shape, phase.cost.uses_graph(phase.shape))
    ]
    device_s = sum((call.seconds for _, call in priced), np.zeros(count))
    seconds_of_step = step_s(cost, shape, device_s)
    host_s = seconds_of_step - device_s
    for name, call in priced:
        op, eager = call.op, call.eager
        whole, work = call.seconds / seconds_of_step, call.work_s / seconds_of_step
        for index, part in enumerate(PARTS):
            parts[part] += np.where(eager.work_part == index, work, 0.0)
        parts["launch"] += whole - work
        share = float(whole.mean())
        operators[op.name if name == "target" else f"{name}_{op.name}"] += share
        shares[name] += share
        known = float((whole * eager.measured).mean())
        evidence["measured"] += known
        evidence[eager.evidence] += share - known
        sigma = _ERROR_OF_EVIDENCE[eager.evidence]
        if eager.rel_error is not None:
            sigma = eager.rel_error * _MEDIAN_TO_SIGMA
        variance[op.family] += share * sigma
        flops += call.times * op.flops
        moved += call.times * op.bytes
    parts["host"] += host_s / seconds_of_step
    shares["host"] = host = float((host_s / seconds_of_step).mean())
    engine = cost.engine.step_overhead_s.evidence
    operators["host"] += host
    evidence[engine] += host
    variance["host"] += host * _ERROR_OF_EVIDENCE[engine]
    peak = cost.peak_flops_per_s
    return Account(
        run, parts, dict(operators), dict(evidence), flops / (seconds_of_step * peak),
        moved / (seconds_of_step * cost.device.memory_bandwidth_bytes_per_s.value),
        float(np.sqrt(sum(term**2 for term in variance.values()))), dict(shares),
    )  # fmt: skip
