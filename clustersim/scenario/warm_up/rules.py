"""None, a share of the horizon, a time, and MSER-5."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from clustersim.kinds import register
from clustersim.records import Floats
from clustersim.scenario.warm_up import WarmUp
from clustersim.units import Seconds


@register("warm_up")
class NoWarmUp(WarmUp):
    """Measure from the start: right for a finite benchmark or a trace that is replayed whole."""

    kind: Literal["none"] = "none"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def end_s(self, horizon_s: float, finish_s: Floats, latency_s: Floats) -> float:  # noqa: ARG002 - a contract
        """See WarmUp."""
        return 0.0


@register("warm_up")
class Fraction(WarmUp):
    """Leave out a share of the horizon."""

    kind: Literal["fraction"] = "fraction"
    fraction: float = Field(0.1, ge=0, lt=1)
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"fraction": 0.2},)

    def end_s(self, horizon_s: float, finish_s: Floats, latency_s: Floats) -> float:  # noqa: ARG002 - a contract
        """See WarmUp."""
        return self.fraction * horizon_s


@register("warm_up")
class Duration(WarmUp):
    """Leave out a stretch of time."""

    kind: Literal["duration"] = "duration"
    duration_s: Seconds
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"duration": "2 s"},)

    def end_s(self, horizon_s: float, finish_s: Floats, latency_s: Floats) -> float:  # noqa: ARG002 - a contract
        """See WarmUp."""
        return self.duration_s


@register("warm_up")
class Mser5(WarmUp):
    """Leave out what MSER-5 finds transient in the latencies of requests in the order they finish.

    Batches of five; drop the d first that minimise the variance of the rest over their number squared, d at most
    half. Source: White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics", WSC 2000.
    """

    kind: Literal["mser5"] = "mser5"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def end_s(self, horizon_s: float, finish_s: Floats, latency_s: Floats) -> float:  # noqa: ARG002 - a contract
        """See WarmUp."""
        done = np.isfinite(finish_s)
        order = np.argsort(finish_s[done], kind="stable")
        finish, latency = finish_s[done][order], latency_s[done][order]
        batches = len(latency) // 5
        if batches < 4:
            return 0.0
        means = latency[: batches * 5].reshape(batches, 5).mean(axis=1)[::-1]
        count = np.arange(1, batches + 1)
        spread = np.cumsum(means**2) - np.cumsum(means) ** 2 / count
        error = (np.maximum(spread, 0.0) / count**2)[::-1]
        dropped = int(np.argmin(error[: batches // 2 + 1]))
        return float(finish[dropped * 5]) if dropped else 0.0
