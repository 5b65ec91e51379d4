"""Replicas that are textbook queues wait as the textbook says, within the interval of ten replications.

A step that takes the same time whatever is in it makes a replica of k slots k parallel servers with one queue;
a step that takes time in proportion to its batch makes processor sharing. Service is counted in tokens.
"""

from __future__ import annotations

from math import factorial

import numpy as np
import toy

from clustersim.metrics import confidence_interval
from clustersim.serving.schedulers.chunked_prefill import ChunkedPrefill

REPLICATIONS = 12
TOKENS = 500  # of the mean request; the service takes one second


def measure(load, slots, draw, steps, what, count=5000):
    """Return the interval of the mean of `what(requests)` over replications, the first tenth of each left out."""
    means = []
    for seed in range(REPLICATIONS):
        rng = np.random.default_rng(seed)
        outputs = draw(rng, count)
        arrivals = np.cumsum(rng.exponential(1 / load, count))
        mix = toy.Mix(arrivals.tolist(), [1] * count, [0] * count, outputs.tolist(),
                      scheduler=ChunkedPrefill(max_num_seqs=slots, token_budget=100_000))  # fmt: skip
        rows = toy.serve(mix, steps).requests
        means.append(what(rows)[count // 10 :].mean())
    return confidence_interval(means, 0.99)


def assert_within(interval, theory: float, width: float) -> None:
    low, high = interval
    assert low < theory < high, (low, theory, high)
    assert high - low < width * theory, "the interval is too wide to say anything"


def waiting(rows):
    return rows["scheduled_s"] - rows["arrival_s"]


def exponential(rng, count):
    return rng.geometric(1 / TOKENS, count)


def constant(rng, count):
    return np.full(count, TOKENS)


def test_one_server_with_exponential_service() -> None:
    """M/M/1: W = rho / (1 - rho)."""
    interval = measure(0.6, 1, exponential, toy.Constant(1 / TOKENS), waiting)
    assert_within(interval, 0.6 / 0.4, 0.25)


def test_one_server_with_constant_service() -> None:
    """M/D/1: W = rho / (2 (1 - rho))."""
    interval = measure(0.7, 1, constant, toy.Constant(1 / TOKENS), waiting)
    assert_within(interval, 0.7 / (2 * 0.3), 0.25)


def test_several_servers() -> None:
    """M/M/k: W = C(k, a) / (k - a), C being Erlang's probability of waiting."""
    k, load = 4, 2.8
    last = load**k / factorial(k) * k / (k - load)
    erlang_c = last / (sum(load**n / factorial(n) for n in range(k)) + last)
    interval = measure(load, k, exponential, toy.Constant(1 / TOKENS), waiting, 8000)
    assert_within(interval, erlang_c / (k - load), 0.25)


def test_processor_sharing_does_not_care_how_service_is_distributed() -> None:
    """M/G/1-PS: a request of x seconds stays x / (1 - rho), here with a few that are very long."""

    def skewed(rng, count):
        return np.where(rng.random(count) < 0.1, 8 * TOKENS, TOKENS * 2 // 9)

    def stretch(rows):
        return (rows["finish_s"] - rows["arrival_s"]) / (rows["answer_tokens"] / TOKENS)

    interval = measure(0.5, 100_000, skewed, toy.Constant(0, 1 / TOKENS), stretch)
    assert_within(interval, 1 / 0.5, 0.25)
