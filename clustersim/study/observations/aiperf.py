"""AIPerf's profile_export_aiperf.json (docs.nvidia.com/aiperf, "JSON Export Schema"): a block of statistics a metric.

Its inter_token_latency is a request's mean, (request_latency - time_to_first_token) / (output_sequence_length - 1):
what vLLM calls tpot.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clustersim.errors import InputError, Problem
from clustersim.study.observations import Observed
from clustersim.study.observations._json import line_of, parse, positive

_LATENCIES = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2el"}
_STATISTICS = {"avg": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_THROUGHPUTS = {"request_throughput": "request_throughput", "output_token_throughput": "output_throughput"}
_MS = {"ms": 1.0, "milliseconds": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "us": 1e-3, "ns": 1e-6}


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    return (
        head.lstrip().startswith("{") and any(f'"{key}"' in head for key in _LATENCIES) and '"unit"' in head
    )


def read(path: Path, text: str) -> Observed:
    """Read averages and percentiles of the three latencies, throughputs, counts of requests and tokens."""
    result = parse(path, text)
    blocks = result.get("records") if isinstance(result.get("records"), Mapping) else result
    assert isinstance(blocks, Mapping)
    metrics: dict[str, float] = {}
    for name, ours in _LATENCIES.items():
        block = _block(path, text, blocks, name)
        if block is None:
            continue
        unit = str(block.get("unit", "")).lower()
        if unit not in _MS:
            what = f'{name} has the unit "{unit}"; one of {", ".join(_MS)} is needed'
            raise InputError([Problem(f"{path}:{line_of(text, name)}", what)])
        for theirs, stat in _STATISTICS.items():
            if block.get(theirs) is not None:
                value = positive(path, text, name, block[theirs])
                metrics[f"{stat}_{ours}_ms"] = value * _MS[unit]
    averages = {}
    for name in (*_THROUGHPUTS, "request_count", "input_sequence_length", "output_sequence_length"):
        block = _block(path, text, blocks, name)
        if block is not None and block.get("avg") is not None:
            averages[name] = positive(path, text, name, block["avg"])
    metrics |= {ours: averages[name] for name, ours in _THROUGHPUTS.items() if name in averages}
    count = averages.get("request_count")
    return Observed(
        str(path), "aiperf", metrics, num_requests=None if count is None else int(count),
        mean_input_tokens=averages.get("input_sequence_length"),
        mean_output_tokens=averages.get("output_sequence_length"),
    )  # fmt: skip


def _block(path: Path, text: str, blocks: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    block = blocks.get(name)
    if block is None or isinstance(block, Mapping):
        return block
    raise InputError([Problem(f"{path}:{line_of(text, name)}", f"{name} is no block of statistics")])
