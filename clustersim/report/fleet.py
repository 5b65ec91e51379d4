"""What a deployment's fleet did beyond its steps: caches, transfers, drafts, admission, scaling, failures.

Everything follows from a deployment's metrics, plain data in which a key is absent where its mechanism is not used;
docs/background/metrics.md says what each key means. A value that could not be measured is None, "n/a" here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clustersim.report import words
from clustersim.results.result import Result
from clustersim.scenario.plan import DeploymentPlan
from clustersim.units import duration, si

Metrics = Mapping[str, Any]
#: Colours of the parts of an accelerator's memory, which the tiers of a cache share.
_NUM_COLOURS = 6


class Figure(NamedTuple):
    """A figure with its name, its unit and the small print below it."""

    label: str
    value: str
    unit: str = ""
    small: str = ""


class Replicas(NamedTuple):
    """How many replicas were on, by bins of the measured window: fewest, mean and most."""

    least: float
    mean: float
    most: float

    @property
    def varied(self) -> bool:
        """Whether replicas came or went."""
        return self.least < self.most

    def __str__(self) -> str:
        """Return the range: "2 to 6"."""
        return f"{words.number(self.least)} to {words.number(self.most)}"


def replicas_on(timeline: pd.DataFrame, deployment: str, window_s: Sequence[float]) -> Replicas | None:
    """Return the replicas that were on in the measured window; None for a timeline that does not say."""
    if "replicas_on" not in timeline:
        return None
    inside = (timeline["time_s"] >= window_s[0]) & (timeline["time_s"] < window_s[1])
    mine = timeline.loc[inside & (timeline["deployment"] == deployment), "replicas_on"]
    counts = mine.dropna().to_numpy(dtype=np.float64)
    return Replicas(float(counts.min()), float(counts.mean()), float(counts.max())) if len(counts) else None


def of(result: Result, plan: DeploymentPlan) -> Replicas | None:
    """Return the replicas of a deployment that were on in the measured window of a run."""
    return replicas_on(result.timeline, plan.deployment.name, result.metrics["window_s"])


def figures(metrics: Metrics, replicas: Replicas | None = None) -> list[Figure]:
    """Return a figure a mechanism that a deployment uses, in the order of a request's way; [] for none."""
    found = [figure(metrics) for key, figure in _FIGURES.items() if key in metrics]
    if replicas is not None and replicas.varied:
        found.append(Figure("Replicas on", str(replicas), "", f"{words.number(replicas.mean)} in the mean"))
    return found


def facts(metrics: Metrics, replicas: Replicas | None = None) -> str:
    """Return the figures as one sentence for the terminal; "" for none."""
    found = []
    for label, value, unit, small in figures(metrics, replicas):
        name = label if label[:2].isupper() else f"{label[0].lower()}{label[1:]}"
        found.append(" ".join(filter(None, (name, value, unit, f"({small})" if small else ""))))
    return f"{'; '.join(found)}." if found else ""


def sentences(metrics: Metrics, replicas: Replicas | None = None) -> Iterator[str]:
    """Yield what the fleet adds to the answer about a deployment."""
    hit = metrics.get("prefix_hit_frac")
    if hit:
        found = f"{words.percent(hit)} of the input tokens were found in a KV cache and not computed again"
        yield f"Of requests that came in the window, {found}."
    if metrics.get("shed"):
        share = metrics.get("shed_frac")
        of_all = "" if share is None else f", {_percent(share)} of those that arrived"
        yield f"It turned away {metrics['shed']:,} requests{of_all}."
    share = metrics.get("availability_frac")
    if share is not None and share < 1:
        yield f"Its replicas were available for {words.availability(share)} of the time that they should have been."
    if replicas is not None and replicas.varied:
        yield f"It ran on {replicas} replicas, {words.number(replicas.mean)} in the mean."


def bars(metrics: Metrics) -> list[dict[str, Any]]:
    """Return the stacked bar of where the input's KV came from; [] where no tier held any."""
    tiers = {tier: tokens for tier, tokens in metrics.get("tier_hits", {}).items() if tokens}
    found = sum(tiers.values())
    if not found:
        return []
    hit = metrics.get("prefix_hit_frac")
    of = "Input tokens" if hit else "Input tokens found"
    shares = {tier.replace("_", " "): tokens / found * (hit or 1.0) for tier, tokens in tiers.items()}
    colors = [f"memory-{index % _NUM_COLOURS}" for index in range(len(shares))]
    if hit and hit < 1:
        shares, colors = {**shares, "computed": 1 - hit}, [*colors, "launch"]
    parts = [
        {"name": name, "color": color, "share": share, "text": words.percent(share)}
        for (name, share), color in zip(shares.items(), colors, strict=True)
    ]
    note = f"{of} by the tier of the cache that held their KV; {words.count(found)} were found."
    return [{"title": "Where the input's KV comes from", "note": note, "parts": parts, "wide": True}]


# ---- figures by the key that calls for them ------------------------------------------------------------------------


def _percent(share: float | None) -> str:
    """Return a share with three digits, since small ones matter here: "0.31 %"."""
    return words.UNKNOWN if share is None else f"{words.number(share * 100)} %"


def _cached(m: Metrics) -> Figure:
    tiers = m.get("tier_hits", {}).items()
    where = ", ".join(f"{tier.replace('_', ' ')} {words.count(tokens)}" for tier, tokens in tiers if tokens)
    small = "of requests that came in the window" + (f": {where}" if where else "")
    return Figure("Input tokens found in KV cache", _percent(m["prefix_hit_frac"]), "", small)


def _transfers(m: Metrics) -> Figure:
    moved = m["kv_transfer"]
    times = (("median", moved["p50_s"]), ("99 % within", moved["p99_s"]))
    small = [f"{name} {duration(seconds)}" for name, seconds in times if seconds is not None]
    return Figure("KV moved", si(moved["bytes"], "B"), "", ", ".join(small))


def _offloaded(m: Metrics) -> Figure:
    moved = m["kv_offload"]
    times = (("median", moved["p50_s"]), ("99 % within", moved["p99_s"]))
    small = ["in the window", f"{si(sum(moved['stored_bytes'].values()), 'B')} written in the whole run"]
    small += [f"{name} {duration(seconds)}" for name, seconds in times if seconds is not None]
    return Figure(
        "KV loaded from slower tiers", si(sum(moved["loaded_bytes"].values()), "B"), "", ", ".join(small)
    )


def _drafts(m: Metrics) -> Figure:
    return Figure("Tokens a step with drafts", words.number(m["speculation"]["tokens_per_step"]))


def _shed(m: Metrics) -> Figure:
    share = m.get("shed_frac")
    small = "" if share is None else f"{_percent(share)} of all"
    return Figure("Requests turned away", words.number(m["shed"]), "", small)


def _available(m: Metrics) -> Figure:
    share = m["availability_frac"]
    return Figure("Replicas available", words.UNKNOWN if share is None else words.availability(share))


def _retries(m: Metrics) -> Figure:
    return Figure("Requests tried again", words.number(m["retries"]))


def _lost(m: Metrics) -> Figure:
    lost = m["lost_tokens"]
    return Figure("Tokens lost to failures", words.UNKNOWN if lost is None else words.count(lost))


def _adapters(m: Metrics) -> Figure:
    return Figure("Adapters loaded", words.number(m["adapter_loads"]))


def _gpu_hours(m: Metrics) -> Figure:
    return Figure("Accelerators held", words.number(m["gpu_hours"]), "GPU-hours")


def _cold_starts(m: Metrics) -> Figure:
    seconds = m.get("cold_start_s")
    small = "" if seconds is None else f"{duration(seconds)} each"
    return Figure("Cold starts", words.number(m["cold_starts"]), "", small)


_FIGURES: Mapping[str, Callable[[Metrics], Figure]] = MappingProxyType(
    {
        "prefix_hit_frac": _cached,
        "kv_offload": _offloaded,
        "kv_transfer": _transfers,
        "speculation": _drafts,
        "shed": _shed,
        "adapter_loads": _adapters,
        "availability_frac": _available,
        "retries": _retries,
        "lost_tokens": _lost,
        "gpu_hours": _gpu_hours,
        "cold_starts": _cold_starts,
    }
)
