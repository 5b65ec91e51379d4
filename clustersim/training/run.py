"""A whole pretraining run: how long, how much money, energy and carbon, or how many accelerators for a deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from clustersim.cost.price import published_prices
from clustersim.economics.power import accelerator_w, host_w
from clustersim.economics.prices import Cost, Price
from clustersim.errors import InputError
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.node import Node
from clustersim.hardware.site import Site
from clustersim.models.spec import ModelSpec
from clustersim.training.goodput import Goodput, Reliability, goodput
from clustersim.training.layout import Recipe, TrainingCluster, TrainingLayout, check_precision
from clustersim.training.price import TrainingCost
from clustersim.training.search import best_step
from clustersim.training.step import TrainingStep, num_sequences, training_step
from clustersim.units import HOUR_S


@dataclass(frozen=True)
class TrainingRun:
    """One pretraining run. Dollars are None where no price is known."""

    step: TrainingStep
    recipe: Recipe
    """With the recomputation and ZeRO stage in use."""
    goodput: Goodput
    tokens: float
    duration_s: float
    """Of wall time, failures and restarts in it."""
    accelerator_hours: float
    usd: float | None
    price: Cost | None
    energy_j: float
    """Of the facility: accelerators, hosts and PUE."""
    peak_w: float
    """What the facility must be able to draw: every node at its rated power, times PUE."""
    gco2e: float
    """Grams of CO2 equivalent, operation only."""

    @property
    def flops(self) -> float:
        """Model FLOP of the run, causal attention in them."""
        return self.step.model_flops / self.step.tokens * self.tokens

    @property
    def effective_mfu(self) -> float:
        """MFU over wall time."""
        return self.step.mfu * self.goodput.frac


@dataclass(frozen=True)
class Pretraining:
    """What to train on what; `run` says what it takes."""

    spec: ModelSpec
    tokens: float
    """Tokens of the whole run."""
    cluster: TrainingCluster
    site: Site
    price: Price
    seq_len: int = 8192
    """Llama 3's of most of its pretraining (arXiv:2407.21783, 3.4.1)."""
    batch_tokens: int | None = None
    """Of the global batch; `best_batch_tokens` of the run's FLOP if not given."""
    recipe: Recipe = field(default_factory=Recipe)
    layout: TrainingLayout | None = None
    """The fastest if not given."""
    reliability: Reliability = field(default_factory=Reliability)

    @property
    def global_batch_tokens(self) -> int:
        """Tokens of a step."""
        if self.batch_tokens is not None:
            return self.batch_tokens
        return best_batch_tokens(3.0 * self.spec.flops_per_token * self.tokens, self.seq_len)

    def run(self) -> TrainingRun:
        """Return what the run takes; raises InputError where it cannot be."""
        if self.tokens < self.global_batch_tokens:
            raise InputError(
                f"{self.tokens:.3g} tokens are less than one global batch of {self.global_batch_tokens}; "
                "give more tokens or a smaller batch_tokens"
            )
        cost = TrainingCost(self.spec, self.cluster, self.recipe, self.seq_len)
        if self.layout is None:
            cost, step = best_step(cost, self.global_batch_tokens)
        else:
            step = training_step(cost, self.layout, self.global_batch_tokens)
        kept = goodput(self.spec.num_parameters, self.cluster.num_accelerators, self.reliability)
        return self.billed(cost, step, kept)

    def billed(self, cost: TrainingCost, step: TrainingStep, kept: Goodput) -> TrainingRun:
        """Return the run of such steps with such goodput; see docs/background/energy-and-cost.md for power."""
        node, number = self.cluster.node, self.cluster.num_accelerators
        duration_s = self.tokens / step.tokens_per_s / kept.frac
        share = number / node.count
        it_j = duration_s * (number * mean_accelerator_w(node.accelerator, step) + share * _host_w(node))
        energy_j = it_j * self.site.pue.value
        price = self.price.cost(published_prices(node.accelerator))
        usd = None
        if price is not None:
            usd = price.usd_per_s * number * duration_s
            usd += 0.0 if price.includes_energy else energy_j * self.site.electricity_usd_per_j.value
        return TrainingRun(
            step, cost.recipe, kept, self.tokens, duration_s, number * duration_s / HOUR_S, usd, price, energy_j,
            share * node.max_w * self.site.pue.value, energy_j * self.site.carbon_g_per_j.value,
        )  # fmt: skip

    def within(self, deadline_s: float) -> TrainingRun:
        """Return the run on the fewest accelerators that ends by a deadline.

        Tried are whole nodes in powers of two and three times these, from what would do at 100 % MFU on; the
        cluster's own number is not looked at. Raises InputError where no number ends in time, with the fastest.
        """
        if self.layout is not None:
            raise InputError("a deadline with a layout: the layout says how many accelerators; leave it out")
        cost = TrainingCost(self.spec, self.cluster, self.recipe, self.seq_len)
        check_precision(cost.device, self.recipe)
        num_sequences(cost, self.global_batch_tokens)
        fastest: TrainingRun | None = None
        for number in self._numbers(deadline_s):
            cluster = self.cluster.model_copy(update={"num_accelerators": number})
            try:
                run = replace(self, cluster=cluster).run()
            except InputError:
                continue
            if run.duration_s <= deadline_s:
                return run
            if fastest is not None and run.duration_s > 1.2 * fastest.duration_s:
                break
            if fastest is None or run.duration_s < fastest.duration_s:
                fastest = run
        said = "none fits" if fastest is None else (
            f"the fastest is {fastest.duration_s / 86400:.1f} days on {fastest.step.num_accelerators:,}"
        )  # fmt: skip
        raise InputError(
            f"no number of {self.cluster.node.name} trains {self.spec.name} on {self.tokens:.3g} tokens in "
            f"{deadline_s / 86400:.1f} days ({said}); use a later deadline or a larger batch_tokens"
        )

    def _numbers(self, deadline_s: float) -> Iterator[int]:
        node = self.cluster.node
        flops = 3.0 * self.spec.flops_per_token * self.tokens
        peak = node.accelerator.peak_flops_per_s(self.recipe.formats.compute).value
        least = flops / (deadline_s * peak)
        most = self.global_batch_tokens // self.seq_len * node.count * 64
        sizes = sorted({node.count * factor * 2**n for n in range(24) for factor in (1, 3)})
        return (size for size in sizes if least <= size <= most)


def best_batch_tokens(flops: float, seq_len: int) -> int:
    """Return a global batch for a run of so many FLOP: a power of two of sequences near 0.2920 C^0.3271 tokens.

    Source: DeepSeek LLM (arXiv:2401.02954), equation 1; assumed, its digits are unconfirmed. 4e25 FLOP: 67M tokens.
    """
    sequences = max(1.0, 0.2920 * flops**0.3271 / seq_len)
    return int(2 ** round(np.log2(sequences))) * seq_len


def mean_accelerator_w(device: Accelerator, step: TrainingStep) -> float:
    """Return the mean power of an accelerator over a step, from the shares of its peaks that are in use."""
    use = np.array([step.memory_use_frac]), np.array([min(1.0, step.hfu)])
    return float(accelerator_w(device.idle_w.value, device.tdp_w.value, *use)[0])


def _host_w(node: Node) -> float:
    return float(host_w(node.host_idle_w.value, node.host_max_w.value, np.ones(1))[0])
