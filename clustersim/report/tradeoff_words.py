"""Names and figures of a tradeoff study as people say them."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isnan
from types import MappingProxyType

from clustersim.quality.solver import Mode
from clustersim.study.tradeoff.answer import DEMANDS, Band

#: Mode -> what it supposes.
MODES: Mapping[Mode, str] = MappingProxyType(
    {
        "log_compute": "if every tenfold of training compute adds the same",
        "loss_linked": "if what training adds ends where the loss does",
    }
)
#: Uncertain input -> what it is, and the measurement that would settle it.
INPUTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "recipe": (
            "how far it differs from the anchor's",
            "train one small model with your recipe and score it on the benchmark",
        ),
        "logit_per_decade_compute": (
            "what a tenfold of training adds",
            "score two models of your recipe that differ tenfold in compute",
        ),
        "logit_per_decade_tokens": (
            "what a tenfold of thinking adds",
            "score one model at budgets of 1k, 4k and 16k thinking tokens",
        ),
        "logit_per_nat": ("what a nat of loss adds", "score two models of your recipe and note their losses"),
        "heterogeneity": (
            "how unlike problems are",
            "sample each problem 16 times and see how often each is solved",
        ),
        "plurality_threshold": (
            "when a vote is won",
            "sample each problem 16 times and score votes of 4, 8 and 16",
        ),
        "reasoning_shift": (
            "what teaching to reason adds",
            "score one model before and after reinforcement learning at equal thinking",
        ),
        "saturation_multiple": (
            "where more thinking stops to help",
            "force one model to think 2, 4 and 8 times its natural length",
        ),
        "progress_per_year": (
            "how fast algorithms improve",
            "train one small model with today's recipe and compare its loss with the law's",
        ),
        "moe_exponent": (
            "what experts add to a model",
            "train a dense and a sparse model of equal active weights",
        ),
        "repetition_decay": (
            "what repeated data are worth",
            "train one small model on 1, 4 and 16 epochs of one sample",
        ),
        "anchor_thinking_tokens": ("how long the anchor thinks", "count its tokens on the benchmark"),
        "rl_decades": (
            "how the gain grows with reinforcement learning",
            "score one model at a hundredth and a tenth of the full dose",
        ),
        "training_cost": (
            "how fast training really runs",
            "train one size for an hour on the fleet and note its MFU",
        ),
        "training_price": ("the price of training", "ask for a quote"),
        "serving_price": ("the price of serving", "ask for a quote"),
        "serving_error": (
            "how fast a step really is",
            "run the serving engine once on the node: clustersim calibrate-from",
        ),
    }
)


def usd(value: float) -> str:
    """Return dollars with three digits: "$41.6M"; "out of reach" for infinity."""
    if value == inf:
        return "out of reach"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"${value / size:.3g}{letter}" if value < 999.5 * size else f"${value / size:,.0f}{letter}"
    return f"${value:.3g}"


def count(value: float) -> str:
    """Return a number of queries, weights or tokens: "10M", "142B"."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def chance(value: float) -> str:
    """Return a chance from draws; never 0 or 100 %, which draws cannot show."""
    if isnan(value):
        return "n/a"
    return "under 1 %" if value < 0.01 else "over 99 %" if value > 0.99 else f"{value:.0%}".replace("%", " %")


def demand(value: float) -> str:
    """Return a demand, or that it lies beyond those looked at."""
    if value == 0 or value < DEMANDS[0]:
        return f"under {count(DEMANDS[0])}"
    return f"over {count(DEMANDS[-1])}" if value == inf else count(value)


def crossover(band: Band, name: str) -> str:
    """Return up to which demand a policy is cheaper."""
    ends = f"(90 %: {demand(band.low)} to {demand(band.high)} queries a day)"
    if band.best == inf:
        return f"{name} stays cheaper at every demand up to {count(DEMANDS[-1])} {ends}"
    if band.best == 0:
        return f"{name} is cheaper at no demand from {count(DEMANDS[0])} on {ends}"
    return f"{name} is cheaper up to {demand(band.best)} queries a day {ends}"


def policy(name: str) -> str:
    """Return a policy's name in words."""
    return name.replace("_", " ")


def what(name: str) -> str:
    """Return what an uncertain input is."""
    known = INPUTS.get(name)
    return known[0] if known else f"the {name}" if name.startswith("simulation") else name


def measurement(name: str) -> str:
    """Return the measurement that would settle an input."""
    known = INPUTS.get(name)
    return known[1] if known else "simulate more tasks: --set serving.tasks=1000"


def of_band(band: Band, say: object) -> str:
    """Return "BEST (90 %: LOW to HIGH)" with `say` for each."""
    assert callable(say)
    return f"{say(band.best)} (90 %: {say(band.low)} to {say(band.high)})"
