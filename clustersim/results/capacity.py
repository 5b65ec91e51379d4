"""How many requests a second a deployment could finish with its batches as full as slots and KV allow."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np

from clustersim.records import Floats
from clustersim.results.served import Served
from clustersim.scenario.plan import DeploymentPlan


def capacity_per_s(plan: DeploymentPlan, served: Served, replicas: float) -> float:
    """Return the requests a second that so many replicas could finish with requests like those the deployment got.

    Recomputation after preemption is not in it, nor that ranks hold unequal shares of a batch.
    """
    rows = served.requests
    taken = np.isfinite(rows["scheduled_s"])
    if not taken.any():
        return 0.0
    inputs = rows["input_tokens"][taken].astype(float)
    computed = inputs - rows["cached_tokens"][taken]
    if plan.deployment.prefill_by is not None:
        computed = np.zeros_like(inputs)
    outputs = (rows["thinking_tokens"] + rows["answer_tokens"])[taken].astype(float)
    full = _Full(plan, inputs, computed, outputs)
    budget = plan.deployment.scheduler.max_step_tokens
    each = full.static_per_s() if budget is None else full.continuous_per_s(budget)
    return replicas * each


@dataclass(frozen=True)
class _Full:
    """A replica whose batch is full; inputs, those of them not found in the cache, and outputs, in tokens, (n,)."""

    plan: DeploymentPlan
    inputs: Floats
    computed: Floats
    outputs: Floats

    def continuous_per_s(self, budget: int) -> float:
        """Return the rate of continuous batching: steps that only decode, and steps that also prefill.

        As many requests start as end in a step, independently of each other: a Poisson number. Where the budget
        has no room for that many tokens, prefill spreads over more steps.
        """
        layout = self.plan.deployment.parallelism
        whole = budget * layout.attention_dp * layout.pp
        mean = float(self.computed.mean())
        decodes = float(self.outputs.mean()) - 1
        if mean == 0:  # prefilled elsewhere
            step_s = self.plan.step_time.decode(self.batch).at(self.batch * self.context)
            return self.batch / (max(decodes, 1.0) * step_s)
        batch = self.batch if decodes else 0
        room = max(1.0, whole - batch) / mean
        if not decodes:
            return room / self.mixed_s(0, room, budget)
        starts = batch / (decodes + 1 + mean / whole)  # a step
        prefilling = min(1.0, max(1 - exp(-starts), starts / room))
        starts = min(room, starts)
        plain = self.plan.step_time.decode(batch).at(batch * self.context)
        mixed = self.mixed_s(batch, starts / prefilling, budget)
        return starts / ((1 - prefilling) * plain + prefilling * mixed)

    def static_per_s(self) -> float:
        """Return the rate of static batching: prefill of a batch, then as many steps as its longest output has."""
        ordered, batch = np.sort(self.outputs), self.batch
        below = np.linspace(0, 1, len(ordered) + 1) ** batch
        steps = float((ordered * np.diff(below)).sum()) - 1
        seconds = self.mixed_s(0, batch, int(self.computed.sum()))
        if steps > 0:
            alive = max(1, round(batch * (float(self.outputs.mean()) - 1) / steps))
            seconds += steps * self.plan.step_time.decode(alive).at(alive * self.context)
        return batch / seconds

    @property
    def context(self) -> float:
        """Mean context of a decoding sequence; long outputs weigh more, for they are longer in the batch."""
        steps = np.maximum(self.outputs - 1, 0)
        if not steps.any():
            return float(self.inputs.mean())
        return float(np.average(self.inputs + self.outputs / 2, weights=steps))

    @property
    def batch(self) -> int:
        """Sequences that slots and KV have room for."""
        deployment = self.plan.deployment
        slots = deployment.scheduler.max_num_seqs * deployment.parallelism.attention_dp
        return int(max(1, min(slots, self.plan.memory.kv_tokens // self.context)))

    def mixed_s(self, batch: int, prompts: float, most: int) -> float:
        """Return the seconds of a step that prefills `prompts` prompts, at most `most` tokens of one of them."""
        new, cached = self.computed, self.inputs - self.computed
        tokens = max(1, round(prompts * float(new.mean())))
        pairs = round(prompts * float((new * cached + new * (new + 1) / 2).mean()))
        keys = max(tokens, round(prompts * float(self.inputs.mean())))
        longest = float(np.quantile(new, prompts / (prompts + 1)))
        largest = max(1, min(tokens, most, round(longest)))
        context = int(batch * self.context)
        return self.plan.step_time.mixed(batch, context, tokens, pairs, keys, max(1, round(prompts)), largest)
