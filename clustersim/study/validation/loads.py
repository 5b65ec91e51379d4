"""The load of a row: which requests come when, and what bounds the engine's batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from clustersim.errors import unknown
from clustersim.study.validation.mapping import ServingRules, Shape, first
from clustersim.study.validation.rows import RefusedError, Row

_MEAN = re.compile(r"mean ([0-9.]+)")
_RATE = re.compile(r"([0-9.]+) req/s")
_REQUESTS = re.compile(r"^(\d+) req\b")


@dataclass(frozen=True)
class Load:
    """A workload and the scheduler that bounds it, as a scenario has them."""

    workload: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    mean_input_tokens: float
    mean_output_tokens: float
    longest_tokens: int
    """Input plus output of the longest request."""
    assumes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Lengths:
    value: Mapping[str, Any]
    mean_input: float
    mean_output: float
    longest: int


def load_of(row: Row, rules: ServingRules) -> Load:
    """Return the load of a row; raises RefusedError for one that is not known or not given in numbers."""
    if row.load_kind not in _LOADS:
        raise RefusedError(unknown("load", row.load_kind, _LOADS))
    rule = first(rules.lengths, row)
    if rule is None:
        raise RefusedError("no rule says how its lengths are distributed")
    trace = row.load_kind == "arrival_trace"
    sizes = (_mean(row, "isl"), _mean(row, "osl")) if trace else (row.count("isl"), row.count("osl"))
    lengths = _lengths(rule.use, *sizes)
    workload, scheduler = _LOADS[row.load_kind](row, rules)
    return Load(
        {**workload, "lengths": lengths.value}, scheduler, lengths.mean_input, lengths.mean_output,
        lengths.longest, (rule.assumes,) if rule.assumes else (),
    )  # fmt: skip


def _lengths(shape: Shape, isl: float, osl: float) -> _Lengths:
    """Return lengths of a shape around the nominal (or mean) input and output of a row."""
    if shape.kind == "fixed":
        fixed = {"kind": "fixed", "input": round(isl), "answer": round(osl)}
        return _Lengths(fixed, round(isl), round(osl), round(isl) + round(osl))
    if shape.kind == "uniform":
        ranges = [(max(1, round(shape.low * size)), round(shape.high * size)) for size in (isl, osl)]
        given = [{"kind": "uniform", "low": low, "high": high} for low, high in ranges]
        mean_input, mean_output = ((low + high) / 2 for low, high in ranges)
        longest = sum(high for _, high in ranges)
    else:
        tables = [
            {share: factor * size for share, factor in table.items()}
            for table, size in ((shape.input, isl), (shape.answer, osl))
        ]
        given = [{"kind": "quantiles", "table": table} for table in tables]
        mean_input, mean_output = isl, osl
        longest = sum(round(max(table.values())) for table in tables)
    independent = {"kind": "independent", "input": given[0], "answer": given[1]}
    return _Lengths(independent, mean_input, mean_output, longest)


def _mean(row: Row, column: str) -> float:
    """Return the mean in "trace(mean 857)"."""
    return float(_said(_MEAN, getattr(row, column), f"{column} of a trace gives no mean"))


def _said(pattern: re.Pattern[str], text: str, otherwise: str) -> str:
    found = pattern.search(text)
    if found is None:
        raise RefusedError(otherwise)
    return found[1]


def _static_batch(row: Row, _: ServingRules) -> tuple[dict[str, Any], dict[str, Any]]:
    size = row.count("load_value")
    return (
        {"arrivals": {"kind": "all_at_once"}, "num_requests": size},
        {"kind": "static_batch", "max_num_seqs": size},
    )


def _concurrency(row: Row, rules: ServingRules) -> tuple[dict[str, Any], dict[str, Any]]:
    users, loop = row.count("load_value"), rules.loads.concurrency
    requests = max(loop.requests_per_user * users, loop.min_requests)
    return (
        {"arrivals": {"kind": "closed_loop", "concurrency": users}, "num_requests": requests},
        {"kind": "chunked_prefill", "max_num_seqs": max(loop.max_num_seqs, users)},
    )


def _offline(row: Row, rules: ServingRules) -> tuple[dict[str, Any], dict[str, Any]]:
    offline = rules.loads.offline_all_at_once
    return (
        {"arrivals": {"kind": "all_at_once"}, "num_requests": row.count("load_value")},
        {
            "kind": "chunked_prefill",
            "max_num_seqs": offline.max_num_seqs,
            "token_budget": offline.token_budget,
        },
    )


def _trace(row: Row, _: ServingRules) -> tuple[dict[str, Any], dict[str, Any]]:
    """A trace is told in words: "300 req, ShareGPT at 10 req/s", and its settings in notes ("max_num_seqs=256")."""
    number = _said(_REQUESTS, row.load_value, "the load of a trace gives no number of requests")
    rate = _said(_RATE, row.load_value, "the load of a trace gives no rate")
    settings = dict(part.split("=", 1) for part in row.notes.replace(";", " ").split() if "=" in part)
    bounds = {}
    for key, name in (("max_num_seqs", "max_num_seqs"), ("token_budget", "max_num_batched_tokens")):
        if not settings.get(name, "").isdigit():
            raise RefusedError(f"the notes of a trace do not give {name}")
        bounds[key] = int(settings[name])
    return (
        {"arrivals": {"kind": "poisson", "rate": f"{rate} req/s"}, "num_requests": int(number)},
        {"kind": "chunked_prefill", **bounds},
    )


_LOADS: Mapping[str, Callable[[Row, ServingRules], tuple[dict[str, Any], dict[str, Any]]]] = MappingProxyType(
    {
        "static_batch": _static_batch,
        "concurrency": _concurrency,
        "offline_all_at_once": _offline,
        "arrival_trace": _trace,
    }
)
