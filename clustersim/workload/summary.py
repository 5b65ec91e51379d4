"""What a set of requests looks like, for reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clustersim.workload.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Spread:
    """Mean and percentiles of one quantity."""

    mean: float
    p50: float
    p90: float
    p99: float
    highest: float


@dataclass(frozen=True)
class Summary:
    """Requests in numbers; rate and burstiness are NaN without times, or with fewer than three arrivals."""

    num_requests: int
    span_s: float
    rate_per_s: float
    arrival_cv: float
    input_tokens: Spread
    thinking_tokens: Spread
    answer_tokens: Spread
    output_tokens: Spread


def summarise(
    arrival_s: FloatArray | None, input_tokens: IntArray, thinking_tokens: IntArray, answer_tokens: IntArray
) -> Summary:
    """Summarise n requests; every array is (n,), `arrival_s` sorted."""
    span = rate = cv = float("nan")
    if arrival_s is not None and len(arrival_s) > 2 and arrival_s[-1] > arrival_s[0]:
        gaps = np.diff(arrival_s)
        span, rate = float(arrival_s[-1] - arrival_s[0]), float(1 / gaps.mean())
        cv = float(gaps.std() / gaps.mean())
    return Summary(
        num_requests=len(input_tokens),
        span_s=span,
        rate_per_s=rate,
        arrival_cv=cv,
        input_tokens=_spread(input_tokens),
        thinking_tokens=_spread(thinking_tokens),
        answer_tokens=_spread(answer_tokens),
        output_tokens=_spread(thinking_tokens + answer_tokens),
    )


def _spread(values: IntArray) -> Spread:
    if len(values) == 0:
        return Spread(*[float("nan")] * 5)
    return Spread(float(values.mean()), *(float(q) for q in np.quantile(values, [0.5, 0.9, 0.99, 1])))
