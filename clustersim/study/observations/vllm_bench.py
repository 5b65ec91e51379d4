"""Results of `vllm bench serve --save-result` (vllm/benchmarks/serve.py), in milliseconds under its own keys."""

from __future__ import annotations

from pathlib import Path

from clustersim.errors import InputError, Problem
from clustersim.study.observations import LATENCIES, STATISTICS, Observed
from clustersim.study.observations._json import line_of, parse, positive

_THROUGHPUTS = ("request_throughput", "output_throughput")


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    return head.lstrip().startswith("{") and any(
        f'"{key}"' in head for key in ("mean_ttft_ms", "median_ttft_ms", "total_input_tokens")
    )


def read(path: Path, text: str) -> Observed:
    """Read mean, median and percentiles of ttft, tpot, itl and e2el, throughputs, counts of requests and tokens."""
    result = parse(path, text)
    names = [f"{stat}_{what}_ms" for stat in STATISTICS for what in LATENCIES] + list(_THROUGHPUTS)
    metrics = {
        name: positive(path, text, name, result[name]) for name in names if result.get(name) is not None
    }
    completed = int(positive(path, text, "completed", result.get("completed", 0)))
    if "completed" in result and completed == 0:
        raise InputError([Problem(f"{path}:{line_of(text, 'completed')}", "no request was completed")])

    def mean(key: str) -> float | None:
        return positive(path, text, key, result[key]) / completed if completed and key in result else None

    return Observed(
        str(path), "vllm_bench", metrics, num_requests=completed or None,
        mean_input_tokens=mean("total_input_tokens"), mean_output_tokens=mean("total_output_tokens"),
    )  # fmt: skip
